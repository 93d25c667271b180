"""Does a weight mean anything? Erase the most attended item, the least attended and a random one, and rank again.

The attention to an item is the mean of |weight| over all layers and heads, in the row that predicts. The last item is
never erased: it asks the question, whatever weight it has. What is erased leaves a hole that nothing reads. If weights
mean something, the target's rank moves most without the most attended item and least without the least attended one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_attn.analysis.cases import Cases
from recbole_attn.analysis.inside import at_read, look
from recbole_attn.analysis.measures import normal
from recbole_attn.analysis.noise import erase
from recbole_attn.analysis.scores import ranks

CHOICES = ("most", "least", "random")
_SHORTEST = 3  # items: two to choose from, and the last


class Erasures(NamedTuple):
    """What erasing does to the target's rank.

    Attributes:
        moves: (trainings, users, 2, 3) log2 of rank after / rank before: 1 where the target's rank doubles, so that it
            falls. By the first and by the final maps; the most and the least attended item, and a random one. NaN for
            histories of fewer than three items.
    """

    moves: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """(users, 2, 3) how far the rank moves, up or down, averaged over trainings."""
        return np.abs(self.moves).mean(0)

    @property
    def beyond_random(self) -> np.ndarray:
        """(users, 2, 2) how much further it moves without the most and the least attended item than a random one."""
        return self.size[..., :2] - self.size[..., 2:]


def erasures(models: Sequence, cases: Cases, seed: int = 0) -> Erasures:
    """Erase items from all cases and rank the target again, by trainings of one model.

    Args:
        seed: draws the random items of the first training, and the numbers after it those of the others.
    """
    return Erasures(np.stack([_erase_each(model, cases, seed + number) for number, model in enumerate(models)]))


def _erase_each(model, cases: Cases, seed: int) -> np.ndarray:
    """(users, 2, 3) the moves of one training."""
    attention = _attention(model, cases)
    before = np.log2(ranks(model, cases))
    position = torch.arange(cases.items.size(1))
    candidate = position < cases.length[:, None] - 1
    draws = torch.rand(candidate.shape, generator=torch.Generator().manual_seed(seed))
    enough = (cases.length >= _SHORTEST).numpy()
    random = _moves(model, cases, draws.masked_fill(~candidate, -1).argmax(1), before)
    moves = np.full((len(before), 2, len(CHOICES)), np.nan)
    for stage, weights in enumerate(attention):
        if stage and torch.equal(*attention):
            moves[:, 1] = moves[:, 0]
            break
        most = weights.masked_fill(~candidate, -1).argmax(1)
        least = weights.masked_fill(~candidate, torch.inf).argmin(1)
        erased = [_moves(model, cases, choice, before) for choice in (most, least)]
        moves[:, stage] = np.stack([*erased, random], 1)
    moves[~enough] = np.nan
    return moves


def _attention(model, cases: Cases) -> Tensor:
    """(2, U, n) the mean attention to each item, by the first and by the final maps."""
    width = cases.items.size(1)
    found = torch.zeros(2, *cases.items.shape)
    for seen in look(model, cases):
        for stage, end in enumerate((0, -1)):
            rows = [normal(at_read(list(layer.values())[end], seen.read)).abs().mean(1) for layer in seen.maps]
            weights = torch.stack(rows).mean(0)[:, :width].float()
            found[stage, seen.rows, : weights.size(1)] = weights
    return found


def _moves(model, cases: Cases, position: Tensor, before: np.ndarray) -> np.ndarray:
    """(U,) log2 of the rank without the item at `position`, minus log2 of the rank with it."""
    return np.log2(ranks(model, erase(cases, position))) - before
