"""Calibrated attention written as loops; see reference.py. Dropout is given as factors, noise as Gaussian numbers."""

import math
from typing import NamedTuple

import torch
from reference import softmax_over


class Calibration(NamedTuple):
    combined: torch.Tensor
    attacked: torch.Tensor
    penalty: torch.Tensor


def weights(mechanism, x, mask):
    return calibration(mechanism, x, mask).combined


def calibration(mechanism, x, mask, noise=None, drop_map=None, drop_keep=None):
    """A_com and A_att (B, H, L, L) and the penalty; noise and factors are (B, H, L, L), by default 0 and 1."""
    batch, length, heads = x.size(0), x.size(1), mechanism.n_heads
    shape = (batch, heads, length, length)
    noise = torch.zeros(shape).double() if noise is None else noise
    drop_map, drop_keep = (torch.ones(shape).double() if drop is None else drop for drop in (drop_map, drop_keep))
    combined, attacked, squares = [], [], []
    for b in range(batch):
        visible = [[j for j in range(length) if mask[b, 0, i, j]] for i in range(length)]
        queries, keys = project(mechanism.query, x[b]), project(mechanism.key, x[b])
        if mechanism.adversary is not None:
            attackers = project(mechanism.adversary.query, queries), project(mechanism.adversary.key, keys)
        for h in range(heads):
            for i in range(length):
                plain = softmax_over(scores(mechanism, queries, keys, h, i), visible[i])
                plain = [plain[j] * drop_map[b, h, i, j] for j in range(length)]
                if mechanism.adversary is None:
                    combined.append(plain)
                    continue
                keep = keep_row(mechanism, *attackers, h, i, visible[i])
                keep = [keep[j] * drop_keep[b, h, i, j] for j in range(length)]
                stronger = [plain[j] * torch.exp(1 - keep[j]) for j in range(length)]
                calibrated = renormalised(mechanism, stronger, visible[i])
                mixed = [mix(mechanism, plain[j], calibrated[j], queries[i], j) for j in range(length)]
                combined.append(renormalised(mechanism, mixed, visible[i]))
                row = list(noise[b, h, i])
                row = softmax_over(row, visible[i]) if mechanism.adversary.noise == "attention" else row
                struck = [plain[j] * keep[j] + row[j] * (1 - keep[j]) for j in range(length)]
                attacked.append(renormalised(mechanism, struck, visible[i]))
                every = mechanism.adversary.penalty == "frobenius"
                counted = range(length) if every else visible[i] if i in visible[i] else []
                squares += [(1 - keep[j]) ** 2 for j in counted]
    return Calibration(stack(combined, shape), stack(attacked, shape), size(mechanism, squares))


def project(linear, vectors):
    return [linear.weight @ vector + linear.bias for vector in vectors]


def stack(rows, shape):
    return torch.stack([torch.stack(row) for row in rows]).reshape(shape) if rows else None


def size(mechanism, squares):
    if not squares:
        return None
    total = sum(squares)
    return torch.sqrt(total if mechanism.adversary.penalty == "frobenius" else total / len(squares))


def head(vector, h, heads):
    width = len(vector) // heads
    return vector[h * width : (h + 1) * width]


def scores(mechanism, queries, keys, h, i):
    """(q_i·k_j + e^o_ij + e^d_ij)/√d for every j."""
    spatial, found = mechanism.spatial, []
    for j in range(len(keys)):
        q, k = head(queries[i], h, mechanism.n_heads), head(keys[j], h, mechanism.n_heads)
        score = q @ k
        if spatial.order is not None:
            p = torch.sigmoid(spatial.order.weight[0] @ torch.cat([q, k]) + spatial.order.bias[0])
            score = score + torch.log(p if j > i else 1 - p)
        if spatial.distance is not None:
            guess = spatial.distance.weight[0] @ torch.cat([q, k]) + spatial.distance.bias[0]
            score = score - (math.log(1 + abs(i - j)) - guess) ** 2 * spatial.sharpness**2 / 2
        found.append(score / math.sqrt(len(q)))
    return found


def keep_row(mechanism, queries, keys, h, i, visible):
    q = head(queries[i], h, mechanism.n_heads)
    logits = [q @ head(k, h, mechanism.n_heads) / math.sqrt(len(q)) for k in keys]
    if mechanism.adversary.kind == "softmax":
        return softmax_over(logits, visible)
    return [torch.sigmoid(logit + mechanism.adversary.start) for logit in logits]


def renormalised(mechanism, row, visible):
    if mechanism.renorm == "softmax":
        return softmax_over(row, visible)
    total = sum(row[j] for j in visible)
    return [row[j] / total if j in visible else torch.zeros(()).double() for j in range(len(row))]


def mix(mechanism, plain, calibrated, query, j):
    if mechanism.combine == "fixed":
        return plain + 0.5 * calibrated
    if mechanism.combine == "annealing":
        share = math.exp(-float(mechanism.step) / 1e5)
    elif mechanism.gate == "learned":
        share = torch.sigmoid(mechanism.gate_map.weight[j] @ query + mechanism.gate_map.bias[j])
    else:
        share = mechanism.gate
    return share * plain + (1 - share) * calibrated
