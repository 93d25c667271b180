"""Losses against sampled negative items, for catalogues too large to score at every step.

    sampled softmax   -s⁺ + log(exp s⁺ + Σ_j exp(s_j - log n·q_j))
    gBCE              -(β·log σ(s⁺) + Σ_j log(1 - σ(s_j))) / (n + 1),   β = α·(t·(1 - 1/α) + 1/α)

Sampled softmax: Bengio and Senécal, IEEE Trans. Neural Networks 2008. n·q_j is how often item j is expected among n
draws, so that without its positive the sum estimates that of the full softmax without bias; the positive is not drawn
and needs no correction. gBCE: Petrov and Macdonald (gSASRec), RecSys 2023; α is the share of the negative items that
is drawn, t between 0 (plain binary cross-entropy) and 1 (scores calibrated as those of a softmax).

Shapes: T targets, n negatives, N items with the padding. Negatives are drawn from the items 1 … N-1 with repetition,
one draw (n,) for all targets or one (T, n) for each; where one is the target itself, it does not count.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, logsigmoid


class Draw(NamedTuple):
    """Negative items, (n,) or (T, n), and the log of how often each is expected in n draws, of the same shape."""

    items: Tensor
    log_expected: Tensor


class NegativeSampler(nn.Module):
    """Draws from torch's generator of the device, whose state belongs to a checkpoint.

    Args:
        n_items: N.
        n_negatives: n.
        distribution: uniform, or popularity: in proportion to 1 + an item's count.
        counts: (N,) training targets by item; needed for popularity alone.
        per_target: whether each target has a draw of its own.

    Raises:
        ValueError: n_negatives below 1, or an unknown distribution.
    """

    cumulative: Tensor
    log_chance: Tensor

    def __init__(self, *, n_items: int, n_negatives: int, distribution: str, counts: Tensor | None, per_target: bool):
        super().__init__()
        if n_negatives < 1:
            raise ValueError(f"n_negatives must be at least 1, not {n_negatives}")
        if distribution not in ("uniform", "popularity"):
            raise ValueError(f"negative_distribution must be uniform or popularity, not {distribution!r}")
        self.n_items, self.n_negatives, self.per_target = n_items, n_negatives, per_target
        weight = torch.ones(n_items, dtype=torch.float64)
        if distribution == "popularity" and counts is not None:
            weight += counts
        weight[0] = 0
        chance = weight / weight.sum()
        self.register_buffer("cumulative", chance.cumsum(0), persistent=False)
        self.register_buffer("log_chance", chance.log(), persistent=False)

    def draw(self, targets: int) -> Draw:
        """Negatives for so many targets."""
        size = (targets, self.n_negatives) if self.per_target else (self.n_negatives,)
        place = torch.rand(size, dtype=self.cumulative.dtype, device=self.cumulative.device) * self.cumulative[-1]
        items = torch.searchsorted(self.cumulative, place, right=True).clamp(1, self.n_items - 1)
        return Draw(items, self.log_chance[items] + math.log(self.n_negatives))


def scores_of(state: Tensor, items: Tensor, table: Tensor) -> Tensor:
    """The dot products (T, n) of states (T, D) with the items (n,) or (T, n) of a table (N, D)."""
    chosen = embedding(items, table)
    return state @ chosen.T if items.dim() == 1 else torch.einsum("td,tnd->tn", state, chosen)


def sampled_softmax(positive: Tensor, negative: Tensor, log_expected: Tensor | None, hit: Tensor) -> Tensor:
    """Mean sampled softmax.

    Args:
        positive: (T,) scores of the targets.
        negative: (T, n) scores of the negatives.
        log_expected: (n,) or (T, n), `Draw.log_expected`; None leaves out the correction.
        hit: (T, n), where a negative is the target.
    """
    corrected = negative if log_expected is None else negative - log_expected.to(negative)
    corrected = corrected.masked_fill(hit, -torch.inf)
    return (torch.cat([positive[:, None], corrected], dim=1).logsumexp(1) - positive).mean()


def gbce(positive: Tensor, negative: Tensor, hit: Tensor, beta: float) -> Tensor:
    """Mean generalised binary cross-entropy of scores (T,) and (T, n); `hit` (T, n) as in `sampled_softmax`."""
    total = beta * logsigmoid(positive) + logsigmoid(-negative).masked_fill(hit, 0).sum(1)
    return -total.mean() / (negative.size(1) + 1)


def gbce_beta(n_negatives: int, n_items: int, t: float) -> float:
    """β for n negatives out of the N - 2 items that are neither padding nor the target.

    Raises:
        ValueError: t outside [0, 1].
    """
    if not 0 <= t <= 1:
        raise ValueError(f"gbce_t must lie in [0, 1], not {t}")
    alpha = min(1.0, n_negatives / max(1, n_items - 2))
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)
