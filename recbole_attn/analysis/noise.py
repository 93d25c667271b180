"""Histories that are not as they were: items replaced, inserted, dropped, swapped, or one of them erased.

Histories are (U, n), padded with 0 on the right. What is drawn depends on the seed and the histories alone, so that
every model meets the same noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_attn.analysis.cases import Cases

KINDS = ("replace", "insert", "drop", "swap")


def disturb(cases: Cases, kind: str, share: float, n_items: int, seed: int, spare_last: bool = False) -> Cases:
    """The cases with a share of each history's items disturbed.

    Args:
        kind: one of `KINDS`. Replaced and inserted items are drawn from all; of what grows too long the oldest items
            go; one item at least is never dropped; swapped items change places in a circle, so that each moves.
        share: of the items, rounded to whole ones.
        n_items: N, padding counted.
        spare_last: leave the last item alone, with "replace".

    Raises:
        ValueError: an unknown kind, or a share outside [0, 1].
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], not {share}")
    draw = torch.Generator().manual_seed(seed)
    count = (cases.length * share).round().long()
    changed = {"replace": _replace, "insert": _insert, "drop": _drop, "swap": _swap}[kind]
    if kind == "replace" and spare_last:
        items = _replace(cases.items, cases.length - 1, count.clamp_max(cases.length - 1), n_items, draw)
    else:
        items = changed(cases.items, cases.length, count, n_items, draw)
    return cases._replace(items=items, length=(items != 0).sum(1))


def _choose(items: Tensor, length: Tensor, count: Tensor, draw: torch.Generator) -> Tensor:
    """`count` (U,) of the first `length` (U,) positions of each history, bool (U, n)."""
    keys = torch.rand(items.shape, generator=draw)
    keys = keys.masked_fill(torch.arange(items.size(1)) >= length[:, None], 2.0)
    return (keys.argsort(1).argsort(1) < count[:, None]) & (keys < 2)


def _replace(items: Tensor, length: Tensor, count: Tensor, n_items: int, draw: torch.Generator) -> Tensor:
    steps = torch.randint(1, n_items - 1, items.shape, generator=draw)
    others = 1 + (items - 1 + steps) % (n_items - 1)  # any item but the one that stands there
    return torch.where(_choose(items, length, count, draw), others, items)


def _drop(items: Tensor, length: Tensor, count: Tensor, n_items: int, draw: torch.Generator) -> Tensor:
    return close_up(items.masked_fill(_choose(items, length, count.clamp_max(length - 1), draw), 0))


def _insert(items: Tensor, length: Tensor, count: Tensor, n_items: int, draw: torch.Generator) -> Tensor:
    width = items.size(1)
    others = torch.randint(1, n_items, items.shape, generator=draw)
    others = others.masked_fill(torch.arange(width) >= count[:, None], 0)
    places = torch.rand(items.shape, generator=draw) * (length[:, None] + 1) - 1
    keys = torch.cat([torch.arange(width).expand_as(items).float(), places], 1)
    both = torch.cat([items, others], 1)
    longer = close_up(both.gather(1, keys.argsort(dim=1, stable=True)))
    excess = ((longer != 0).sum(1) - width).clamp_min(0)
    return longer.gather(1, (torch.arange(width) + excess[:, None]))


def _swap(items: Tensor, length: Tensor, count: Tensor, n_items: int, draw: torch.Generator) -> Tensor:
    chosen = _choose(items, length, torch.where(count > 1, count, 0), draw)
    position = torch.arange(items.size(1)).expand_as(items)
    ring = position.masked_fill(~chosen, items.size(1)).sort(1).values  # chosen positions, then none
    order = chosen.cumsum(1) % chosen.sum(1, keepdim=True).clamp_min(1)  # the next one of each, the first of the last
    taken = ring.gather(1, order).clamp_max(items.size(1) - 1)
    return torch.where(chosen, items.gather(1, taken), items)


def close_up(items: Tensor) -> Tensor:
    """Move padding to the right, keeping the order of items."""
    return items.gather(1, (items == 0).to(torch.uint8).argsort(dim=1, stable=True))


def erase(cases: Cases, position: Tensor) -> Cases:
    """The cases with a hole at one position (U,) each: no other item reads what is there.

    All others keep their places. Closing the gap would move the later ones, so that a model with embedded positions
    would answer to new places as well as to the loss of an item. A mechanism that counts places back from the number
    of items, as AWRSR's `index: recent` does, is moved by one all the same.
    """
    return cases._replace(items=cases.items.scatter(1, position[:, None], 0))
