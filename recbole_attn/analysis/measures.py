"""What a row of attention weights is like: the row of the position that predicts, in each layer and head.

A weight counts by its size, also where it is negative: w_j = |weight_j| / Σ|weight|, so that Σ w_j = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_attn.analysis.cases import Cases
from recbole_attn.analysis.inside import Look, at_read, look
from recbole_attn.analysis.noise import disturb

NOISE = 0.2  # share of the items, all but the last, that drift replaces
NAMES = {
    "entropy": "how evenly the weight is spread, in nats",
    "items read": "exp(entropy): as many items with equal weight have this entropy",
    "distance": "how many steps are looked back, mean by weight",
    "beyond 10": "share of weight more than 10 steps back",
    "beyond 25": "share of weight more than 25 steps back",
    "agreement": "weight that a head has in common with another one, mean over the others",
    "negative": "share of weight that is negative",
    "drift": f"weight that moves when {NOISE:.0%} of the items, all but the last, are replaced",
}


class Measures(NamedTuple):
    """Of the first and of the final map of every layer and head, (trainings, users, layers, heads, len(NAMES)).

    Attributes:
        before: of the first map, such as the plain softmax.
        after: of the final map; the same where a mechanism has one map.
        changed: whether the model has more than one map anywhere.
    """

    before: np.ndarray
    after: np.ndarray
    changed: bool

    def by_user(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(users,) one measure of the first and of the final maps, averaged over trainings, layers and heads."""
        place = list(NAMES).index(name)
        return self.before[..., place].mean((0, 2, 3)), self.after[..., place].mean((0, 2, 3))


def measure(models: Sequence, cases: Cases, n_items: int, seed: int = 0) -> Measures:
    """Measure the attention of trainings of one model on all cases.

    Args:
        n_items: N, padding counted.
        seed: draws the noise of drift, which every training meets.
    """
    noisy = disturb(cases, "replace", NOISE, n_items, seed, spare_last=True)
    before, after, changed = zip(*(_measure(model, cases, noisy) for model in models))
    return Measures(np.stack(before), np.stack(after), any(changed))


def _measure(model, cases: Cases, noisy: Cases) -> tuple[np.ndarray, np.ndarray, bool]:
    """Of one training: `before`, `after` and `changed`."""
    parts, rows, changed = [], [], False
    for seen, other in zip(look(model, cases), look(model, noisy)):
        changed |= any(len(layer) > 1 for layer in seen.maps)
        parts.append(torch.stack([_stage(seen, other, end) for end in (0, -1)]))
        rows.append(seen.rows)
    before, after = torch.cat(parts, 1)[:, torch.cat(rows).argsort()].double().numpy()
    return before, after, changed


def _stage(seen: Look, other: Look, end: int) -> Tensor:
    """(B, layers, H, len(NAMES)) of the first (0) or final (-1) map of each layer; `other` saw the noisy histories."""
    pairs = [(list(layer.values())[end], list(noisy.values())[end]) for layer, noisy in zip(seen.maps, other.maps)]
    return torch.stack([_describe(found, noisy, seen.read) for found, noisy in pairs], 1)


def _describe(found: Tensor, noisy: Tensor, read: Tensor) -> Tensor:
    """Maps (B, H, n, n) of histories and of their noisy forms → (B, H, len(NAMES))."""
    weights, moved = normal(at_read(found, read)), normal(at_read(noisy, read))
    size = weights.abs()
    back = (read[:, None] - torch.arange(size.size(-1))).clamp_min(0)[:, None].to(size.dtype)
    entropy = -torch.special.xlogy(size, size).sum(-1)
    return torch.stack(
        [
            entropy,
            entropy.exp(),
            (size * back).sum(-1),
            (size * (back > 10)).sum(-1),
            (size * (back > 25)).sum(-1),
            _agreement(weights),
            (-weights).clamp_min(0).sum(-1),
            _apart(weights, moved),
        ],
        -1,
    )


def normal(weights: Tensor) -> Tensor:
    """Weights (..., n) over the sum of their sizes; a row of zeros stays one."""
    total = weights.abs().sum(-1, keepdim=True)
    return weights / total.masked_fill(total == 0, 1.0)


def _apart(weights: Tensor, others: Tensor) -> Tensor:
    """Half the sum of differences: 0 for equal rows, 1 for rows with nothing in common."""
    return (weights - others).abs().sum(-1) / 2


def _agreement(weights: Tensor) -> Tensor:
    """(B, H, n) → (B, H); NaN where there is one head."""
    heads = weights.size(1)
    pairs = 1 - _apart(weights[:, :, None], weights[:, None])
    return (pairs.sum(-1) - 1) / (heads - 1) if heads > 1 else torch.full_like(weights[..., 0], torch.nan)
