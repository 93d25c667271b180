"""The test set as arrays: histories, targets, and what is known of both."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_attn import protocol
from recbole_attn.analysis.context import Clock, steps_to_related
from recbole_attn.compare.ranks import Context
from recbole_attn.errors import UserError

_BATCH = 256


class Cases(NamedTuple):
    """One row for each user of the test set, in its order: with the last target where a split leaves him several.

    Attributes:
        user: (U,) original ids.
        items: (U, n) numbers of the history's items, padded with 0 on the right.
        length: (U,) how many they are.
        target: (U,) number of the item to predict.
        history: (U,) how many earlier interactions the user has.
        popularity: (U,) how many interactions the target has in training.
        gap: (U,) seconds from the last item to the target; NaN where times are mere positions.
        related: (U,) how many steps before the target the item of the history stands that training users most often
            had together with it (cosine); NaN where none was.
    """

    user: np.ndarray
    items: Tensor
    length: Tensor
    target: Tensor
    history: np.ndarray
    popularity: np.ndarray
    gap: np.ndarray
    related: np.ndarray

    def take(self, rows: np.ndarray) -> Cases:
        """Some of the rows."""
        index = torch.as_tensor(rows)
        parts: Any = (column[index] if isinstance(column, Tensor) else column[rows] for column in self)
        return Cases(*parts)

    def batches(self, size: int = _BATCH) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Row numbers (B,), histories trimmed to the longest (B, n) and their lengths (B,); short ones first."""
        for rows in self.length.argsort(stable=True).split(size):
            length = self.length[rows]
            yield rows, self.items[rows, : int(length.max())], length


def load_cases(config) -> tuple[Cases, Any]:
    """The test set that `config` describes, and the data set it is of.

    Raises:
        UserError: a mistake in files, columns, filters or order.
    """
    config = copy.deepcopy(config)
    if config["time_order"] != "recbole":  # whose float32 may order normalised times otherwise
        config["normalize_all"], config["normalize_field"] = False, None  # gaps in the data's own unit
    dataset = protocol.load(config)
    context, clock = Context(dataset), Clock(dataset)
    train, valid, test = protocol.loaders(config, dataset)
    context.hold_out(valid.dataset, test.dataset)
    rows = test.dataset[torch.arange(len(test.dataset))]
    user, target = rows[dataset.uid_field].numpy(), rows[dataset.iid_field]
    items, length = rows[dataset.item_id_list_field], rows[dataset.item_list_length_field]
    cases = Cases(
        user=dataset.id2token(dataset.uid_field, user).astype(str),
        items=items,
        length=length,
        target=target,
        history=context.history(user),
        popularity=context.popularity[target.numpy()],
        gap=clock.gaps(user),
        related=steps_to_related(train.dataset.inter_matrix(form="csr"), items.numpy(), target.numpy()),
    )
    last = np.sort(len(user) - 1 - np.unique(user[::-1], return_index=True)[1])
    return cases.take(last), dataset


def rows_of_users(cases: Cases, users: Sequence[str]) -> np.ndarray:
    """Each user's row.

    Raises:
        UserError: a user who is not in the test set.
    """
    last = {user: row for row, user in enumerate(cases.user)}
    missing = [user for user in users if user not in last]
    if missing:
        example = ", ".join(cases.user[:3])
        raise UserError(
            f"users = {', '.join(missing)}: not in the test set; give original ids of its {len(last)} users, "
            f"such as {example}"
        )
    return np.array([last[user] for user in users])
