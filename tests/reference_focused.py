"""Focused attention written as loops; see reference.py."""

import math
from types import SimpleNamespace

import torch
from reference import for_each_head, plain_map


def weights(mechanism, x, mask):
    second = SimpleNamespace(query=mechanism.other_query, key=mechanism.other_key, n_heads=mechanism.n_heads)
    maps = (for_each_head(which, x, mask, lambda h, *read: plain_map(*read)) for which in (mechanism, second))
    first, other = (each.unbind(1) for each in maps)
    heads = []
    for h in range(mechanism.n_heads):
        kept, taken = (clamped(theta) for theta in mechanism.theta[:, h])
        difference = kept * first[h] - taken * other[h]
        heads.append(positive(difference) if mechanism.norm == "positive" else difference)
    return torch.stack(heads, 1)


def clamped(theta):
    return theta if theta > 0 else theta * 0


def positive(maps):
    """Each row's positive weights over their sum: maps (B, L, L)."""
    rows = []
    for row in maps.flatten(0, 1):
        total = sum(cell for cell in row if cell > 0)
        rows.append(torch.stack([cell / total if cell > 0 else cell * 0 for cell in row]))
    return torch.stack(rows).view_as(maps)


def normed(mechanism, context):
    """The head outputs (B, H, L, d) over their root mean square, times 1-λ_init."""
    rows = []
    for row in context.flatten(0, 2):
        size = math.sqrt(sum(float(cell) ** 2 for cell in row) / len(row) + 1e-5)
        rows.append(row * (1 - mechanism.lambda_init) / size)
    return torch.stack(rows).view_as(context)


def row_sums(mechanism, total):
    """What the rows of a map (B, H, L) sum to; of a positive part, 0 where there is none."""
    if mechanism.norm == "positive":
        return total.round()
    kept, taken = mechanism.theta.clamp_min(0)
    return (kept - taken)[:, None].expand_as(total)
