"""Attention maps of single users, and averaged over users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_attn.analysis.cases import Cases
from recbole_attn.analysis.inside import Look, look


class Maps(NamedTuple):
    """All maps of one history, or of the mean one.

    Attributes:
        layers: for each layer name → (H, n, n): query in rows, key in columns, oldest first, from the first map to the
            final one. NaN where a mean is over nobody.
        labels: (n,) what the positions hold: titles of items, or steps before the last.
        items: (n,) original ids; "" for what is no item, such as the place that is asked for in BERT4Rec.
        users: (n, n) over how many users each cell of a mean is; None for one history.
    """

    layers: list[dict[str, np.ndarray]]
    labels: list[str]
    items: list[str]
    users: np.ndarray | None = None

    def save(self, path: Path) -> None:
        """As an .npz file: `layer 1 plain` and so on, labels, items and users."""
        arrays: dict[str, Any] = {}
        for number, layer in enumerate(self.layers, 1):
            arrays.update({f"layer {number} {name}": found for name, found in layer.items()})
        arrays.update(labels=np.array(self.labels), items=np.array(self.items))
        if self.users is not None:
            arrays["users"] = self.users
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)


def user_maps(model, cases: Cases, titles: Sequence[str], item_ids: Sequence[str]) -> list[Maps]:
    """The maps of each case, padding cut.

    Args:
        titles, item_ids: what to call each item, and its original id, by number.
    """
    found: dict[int, Maps] = {}
    for seen in look(model, cases):
        for place, case in enumerate(seen.rows.tolist()):
            found[case] = _cut(seen, place, cases.items[case, : int(cases.length[case])].tolist(), titles, item_ids)
    return [found[case] for case in range(len(cases.user))]


def _cut(seen: Look, place: int, history: list[int], titles: Sequence[str], item_ids: Sequence[str]) -> Maps:
    size = int(seen.read[place]) + 1
    layers = [{name: found[place, :, :size, :size].numpy() for name, found in layer.items()} for layer in seen.maps]
    asked = size - len(history)  # 1 where the place after the last item is asked for
    return Maps(
        layers, [titles[item] for item in history] + ["?"] * asked, [item_ids[i] for i in history] + [""] * asked
    )


def average_maps(model, cases: Cases) -> Maps:
    """The mean of all cases' maps, aligned at the position that predicts: the last column is that position's."""
    width = cases.items.size(1) + 1
    layers: list[dict[str, Tensor]] = []
    users = torch.zeros(width, width, dtype=torch.float64)
    for seen in look(model, cases):
        place = seen.read[:, None] - torch.arange(width - 1, -1, -1)
        there = (place[:, :, None] >= 0) & (place[:, None, :] >= 0)
        users += there.sum(0)
        layers = layers or [{name: _empty(found, width) for name, found in layer.items()} for layer in seen.maps]
        for total, layer in zip(layers, seen.maps):
            for name, found in layer.items():
                total[name] += (_aligned(found, place.clamp_min(0)) * there[:, None]).sum(0)
    last = int((users > 0).any(0).nonzero().min())
    means = [{name: (total / users).numpy()[:, last:, last:] for name, total in layer.items()} for layer in layers]
    steps = [str(step) for step in range(width - last - 1, -1, -1)]
    return Maps(means, steps, [""] * len(steps), users[last:, last:].long().numpy())


def _empty(found: Tensor, width: int) -> Tensor:
    return torch.zeros(found.size(1), width, width, dtype=torch.float64)


def _aligned(found: Tensor, place: Tensor) -> Tensor:
    """Maps (B, H, n, n) at the positions (B, W) of rows and columns → (B, H, W, W)."""
    heads, width = found.size(1), place.size(1)
    rows = found.gather(2, place[:, None, :, None].expand(-1, heads, width, found.size(-1)))
    return rows.gather(3, place[:, None, None, :].expand(-1, heads, width, width))
