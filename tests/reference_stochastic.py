"""Wasserstein attention, STOSA's layer and its scores written as loops; see reference.py.

A Gaussian is a row of 2D numbers, means first.
"""

import torch
from reference import refine, softmax_over, wasserstein
from torch.nn.functional import elu, layer_norm


def weights(mechanism, x, mask):
    """Final weights (B, H, L, L) of x (B, L, 2D)."""
    return torch.stack([of_history(mechanism, x[b], mask[b, 0]) for b in range(len(x))])


def of_history(mechanism, x, mask):
    size, length = mechanism.head_size, len(x)
    half = x.size(-1) // 2
    visible = [[j for j in range(length) if mask[i, j]] for i in range(length)]

    def project(linear, row):
        return linear.weight @ row + linear.bias

    queries = [(project(mechanism.query, r[:half]), elu(project(mechanism.query_covariance, r[half:])) + 1) for r in x]
    keys = [(project(mechanism.key, r[:half]), elu(project(mechanism.key_covariance, r[half:])) + 1) for r in x]
    maps = []
    for h in range(mechanism.n_heads):
        part = slice(h * size, (h + 1) * size)
        first = []
        for i, (mean, spread) in enumerate(queries):
            distances = [wasserstein(mean[part], spread[part], m[part], s[part]) for m, s in keys]
            first.append(softmax_over([-d / size**0.5 for d in distances], visible[i]))
        if mechanism.refinement is not None:
            first = refine(mechanism.refinement, h, first, visible)
        maps.append(torch.stack([torch.stack(row) for row in first]))
    return torch.stack(maps)


def layer(block, x, mask):
    """What a StochasticLayer without dropout makes of x (B, L, 2D)."""
    maps, half, size = weights(block.attention, x, mask), x.size(-1) // 2, block.attention.head_size
    out = torch.zeros_like(x)
    for b in range(len(x)):
        means = [block.mean.value(row[:half]) for row in x[b]]
        spreads = [elu(block.covariance.value(row[half:])) + 1 for row in x[b]]
        for i in range(x.size(1)):
            read = torch.zeros_like(x[b, i])
            for h in range(block.attention.n_heads):
                part = slice(h * size, (h + 1) * size)
                for j in range(x.size(1)):
                    a = maps[b, h, i, j]
                    read[:half][part] += a * means[j][part]
                    read[half:][part] += a**2 * spreads[j][part]
            out[b, i, :half] = stream(block.mean, x[b, i, :half], read[:half])
            out[b, i, half:] = elu(stream(block.covariance, x[b, i, half:], read[half:])) + 1
    return out


def stream(part, x, read):
    """The sublayers after attention of one stream."""
    x = norm(part.attention_norm, x + part.output(read))
    return norm(part.feed_forward_norm, x + part.narrow(elu(part.widen(x))))


def norm(module, x):
    return layer_norm(x, x.shape, module.weight, module.bias, module.eps)


def score(model, state, item):
    """The score of one item for a state (2D,)."""
    half = len(state) // 2
    return -wasserstein(state[:half], state[half:], *gaussian(model, item))


def gaussian(model, item):
    return model.item_embedding.weight[item], elu(model.item_covariance.weight[item]) + 1


def loss(model, states, targets, negatives):
    """BPR and the penalty for targets that lie further away than from their negative item."""
    total = 0
    for state, target, negative in zip(states, targets, negatives):
        near, far = -score(model, state, target), -score(model, state, negative)
        between = -score(model, torch.cat(gaussian(model, target)), negative)
        total = total - torch.log(torch.sigmoid(far - near)) + model.pvn_weight * max(near - between, 0 * near)
    return total / len(states)
