"""The best of many items, and the rank of one, without ever holding the scores of all.

Shapes: B users, N items. Scores are computed tile by tile, a tile being the scores of some users for a range of items,
small enough for a processor's cache; what is kept is k items a user. Item 0 is padding and ranks last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_GROUPS = 64  # columns of a tile that are looked at by their maximum
_FEWEST_USERS = 64  # in a tile: fewer would make of a matrix product a product with a vector


class TopK(NamedTuple):
    """The k best of each user, the best first: scores and items, both (B, k)."""

    scores: Tensor
    items: Tensor


class Comparison(NamedTuple):
    """How many items are scored higher than a score, and how many exactly so, both (B,)."""

    higher: Tensor
    equal: Tensor


class Scores:
    """The scores (B, N), computed when they are asked for.

    Args:
        score: state (b, ...) of users, first and last → their scores (b, last - first) of the items first … last-1.
        state: (B, ...) what the model makes of the users, a row each.
        n_items: N, padding included.
        chunk: items scored at one time; None for what suits the device.
        hidden: numbers of users and of items, both (M,): pairs that rank last, beside the padding.

    Raises:
        ValueError: chunk is less than 1.
    """

    def __init__(
        self,
        score: Callable[[Tensor, int, int], Tensor],
        state: Tensor,
        n_items: int,
        chunk: int | None,
        hidden: tuple[Tensor, Tensor] | None = None,
    ):
        if chunk is not None and chunk < 1:
            raise ValueError(f"item_chunk must be at least 1, not {chunk}")
        on_cpu = state.device.type == "cpu"
        self.score, self.state, self.n_items, self.hidden = score, state, n_items, hidden
        self.chunk = min(n_items, chunk or (1 << 12 if on_cpu else 1 << 16))
        self.users = max(_FEWEST_USERS, (1 << 20 if on_cpu else 1 << 26) // self.chunk)

    @classmethod
    def of_matrix(cls, scores: Tensor) -> Scores:
        """Scores (B, N) that are held already; their padding is set to rank last."""
        return cls(columns, scores, scores.size(1), None)

    def __len__(self) -> int:
        return len(self.state)

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, len(self), self.users):
            yield slice(start, min(start + self.users, len(self)))

    def _tiles(self, users: slice) -> Iterator[tuple[int, Tensor]]:
        """The first item of each tile of these users, and its scores."""
        for first in range(0, self.n_items, self.chunk):
            scores = self.score(self.state[users], first, min(first + self.chunk, self.n_items))
            yield first, self._hide(scores, users.start, first)

    def _hide(self, scores: Tensor, user: int, first: int) -> Tensor:
        if first == 0:
            scores[:, 0] = -torch.inf
        if self.hidden is not None:
            row, column = self.hidden[0] - user, self.hidden[1] - first
            here = (row >= 0) & (row < scores.size(0)) & (column >= 0) & (column < scores.size(1))
            scores[row[here], column[here]] = -torch.inf
        return scores

    def top_k(self, k: int) -> TopK:
        """The k best items of each user, ties in any order.

        Where fewer may rank, the list ends in item 0 with a score of -inf.
        """
        parts = [self._top_k_of(users, k) for users in self._blocks()]
        return TopK(*map(torch.cat, zip(*parts)))

    def _top_k_of(self, users: slice, k: int) -> TopK:
        best = None
        for first, scores in self._tiles(users):
            if best is None:
                nothing = scores.new_full((len(scores), k), -torch.inf)
                best = TopK(nothing, torch.zeros_like(nothing, dtype=torch.long))
            even = scores.size(1) - scores.size(1) % _GROUPS
            _improve(best, first, scores[:, :even], _GROUPS)
            _improve(best, first + even, scores[:, even:], 1)
        assert best is not None
        return best

    def of(self, items: Tensor) -> Tensor:
        """The score of one item (B,) for each user, to the last bit what ranks it."""
        return torch.cat([self._of(users, items[users, None]) for users in self._blocks()])

    def _of(self, users: slice, items: Tensor) -> Tensor:
        found = None
        for first, scores in self._tiles(users):
            here = (items >= first) & (items < first + scores.size(1))
            value = scores.gather(1, (items - first).clamp(0, scores.size(1) - 1))
            found = value if found is None else torch.where(here, value, found)
        assert found is not None
        return found[:, 0]

    def compare(self, score: Tensor) -> Comparison:
        """Count the items that stand above, and beside, a score (B,) for each user."""
        higher, equal = torch.zeros(2, len(self), dtype=torch.long, device=self.state.device)
        for users in self._blocks():
            for _, scores in self._tiles(users):
                higher[users] += (scores > score[users, None]).sum(1)
                equal[users] += (scores == score[users, None]).sum(1)
        return Comparison(higher, equal)


def columns(scores: Tensor, first: int, last: int) -> Tensor:
    """The `score` of `Scores` for scores that are held."""
    return scores[:, first:last]


def _improve(best: TopK, first: int, scores: Tensor, depth: int) -> None:
    """Put into `best` what is better among the scores (b, n) of the items from `first` on, n a multiple of `depth`.

    The k best of a row lie in the k groups of `depth` columns with the highest maxima; most rows have none above their
    k-th best so far, and are left alone.
    """
    if not scores.size(1):
        return
    k, peaks = best.items.size(1), scores.unflatten(1, (depth, -1)).amax(1)
    above = (peaks > best.scores[:, -1:]).sum(1)
    rows = above.nonzero()[:, 0]
    if not len(rows):
        return
    groups = peaks[rows].topk(min(k, int(above.max()))).indices
    offsets = torch.arange(depth, device=scores.device) * peaks.size(1)
    members = (groups[:, None, :] + offsets[:, None]).flatten(1)
    candidates = torch.cat([best.scores[rows], scores.index_select(0, rows).gather(1, members)], dim=1).topk(k)
    items = torch.cat([best.items[rows], members + first], dim=1)
    best.scores[rows] = candidates.values
    best.items[rows] = items.gather(1, candidates.indices)
