"""Pairs of items that stand close together in training."""

from __future__ import annotations

import torch

from recbole_attn.data.prefixes import Prefixes


def training_pairs(dataset, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(earlier, later), item numbers (P,) each: every training target with each of the `window` items before it.

    `dataset` is the training part of a sequential data set. Histories hold what came before a training target, so
    under splits in order of time no validation or test interaction is among the pairs.
    """
    rows = dataset.inter_feat
    if isinstance(rows, Prefixes):
        table = rows.interaction
        items, target, length = table.log.columns[dataset.iid_field], table.target, table.length
        pairs = [(items[target[length >= far] - far], items[target[length >= far]]) for far in range(1, window + 1)]
    else:
        history, length = rows[dataset.iid_field + dataset.config["LIST_SUFFIX"]], rows[dataset.item_list_length_field]
        pairs = []
        for far in range(1, min(window, history.size(1)) + 1):
            there = length >= far
            earlier = history[there].gather(1, (length[there] - far).unsqueeze(1)).squeeze(1)
            pairs.append((earlier, rows[dataset.iid_field][there]))
    earlier, later = (torch.cat(side) for side in zip(*pairs))
    return earlier, later
