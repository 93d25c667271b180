"""Prefixes by index: one array of sorted interactions, and per row the number of its target and its history's length.

RecBole copies the history of every target into a padded row. Here a row is two numbers, and the padded histories of
a batch are gathered when the batch is made: the same rows, in the same order, with the same values.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import NamedTuple

import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_attn.data.atomic import FastReading
from recbole_attn.data.filters import Filters
from recbole_attn.data.order import TimeOrder
from recbole_attn.data.splits import Splits
from recbole_attn.errors import UserError
from recbole_attn.model import MODELS


class Log(NamedTuple):
    """All interactions by user and time, and what to call the columns that are made from them."""

    columns: dict[str, Tensor]  # (interactions, ...) each
    lists: dict[str, str]  # list column -> the column it lists
    length_field: str
    width: int  # of a padded history


class PrefixColumns(MutableMapping):
    """Name -> column (rows, ...), gathered when it is asked for. What is assigned is kept as it is."""

    def __init__(self, log: Log, target: Tensor, length: Tensor, names: list[str], assigned: dict[str, Tensor]):
        self.log, self.target, self.length = log, target, length
        self.names, self.assigned = list(names), dict(assigned)
        self._whole: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        if name not in self.log.lists or name in self.assigned:
            return self._flat(name)
        if name not in self._whole:  # kept: FEARec asks for the whole column once per row of a batch
            self._whole[name] = self._histories([name], self.log.width)[name]
        return self._whole[name]

    def __setitem__(self, name: str, value: Tensor):
        if name not in self.names:
            self.names.append(name)
        self.assigned[name] = value

    def __delitem__(self, name: str):
        self.names.remove(name)
        self.assigned.pop(name, None)

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)

    def take(self, index) -> PrefixColumns:
        """The rows `index`, still to be gathered."""
        assigned = {name: value[index] for name, value in self.assigned.items()}
        return PrefixColumns(self.log, self.target[index], self.length[index], self.names, assigned)

    def gather(self, trim: bool) -> dict[str, Tensor]:
        """Every column; histories padded with 0 to the longest one if `trim`, to the full width otherwise."""
        width = int(self.length.max()) if trim and self.length.numel() else self.log.width
        lists = [name for name in self.names if name in self.log.lists and name not in self.assigned]
        histories = self._histories(lists, width)
        return {name: histories[name] if name in histories else self._flat(name) for name in self.names}

    def _flat(self, name: str) -> Tensor:
        if name in self.assigned:
            return self.assigned[name]
        return self.length if name == self.log.length_field else self.log.columns[name][self.target]

    def _histories(self, names: list[str], width: int) -> dict[str, Tensor]:
        offset = torch.arange(width)
        first, length = (self.target - self.length).unsqueeze(-1), self.length.unsqueeze(-1)
        index = torch.minimum(first + offset, self.target.unsqueeze(-1))
        padding = offset >= length
        histories = {}
        for name in names:
            values = self.log.columns[self.log.lists[name]][index]
            hidden = padding.reshape(padding.shape + (1,) * (values.dim() - padding.dim()))
            histories[name] = values.masked_fill_(hidden, 0)
        return histories


class Prefixes(Interaction):
    """RecBole's table of interactions over `PrefixColumns`: taking rows gathers nothing."""

    def __init__(self, columns: PrefixColumns):
        self.interaction = columns
        self.length = columns.target.unsqueeze(-1).shape[0]

    def __getitem__(self, index):
        return self.interaction[index] if isinstance(index, str) else Prefixes(self.interaction.take(index))

    def _reindex(self, index):
        self.interaction = self.interaction.take(index)

    def gather(self, trim: bool) -> Interaction:
        return Interaction(self.interaction.gather(trim))


# RecBole's models whose scores do not change with the padding of a batch; the others fail on it, or read it.
TRIMMABLE = frozenset(("BERT4Rec", "CORE", "FPMC", "GCSAN", "GRU4Rec", "NARM", "SASRec", "SRGNN", "TransRec"))


class OrderedDataset(TimeOrder, FastReading, Filters, Splits):
    """RecBole's `Dataset`, for general models: the order of `time_order`, fast reading, clear refusals."""


class PrefixDataset(OrderedDataset, SequentialDataset):
    """RecBole's `SequentialDataset`, prefixes by index.

    `trim` cuts batches to their longest history. Pre-split files (`benchmark_filename`) take RecBole's own path.

    Raises:
        UserError: no user has two interactions; `trim` for a model that reads padding.
    """

    def __init__(self, config):
        ours = config["model"] in MODELS
        if config["trim"] and not ours and config["model"] not in TRIMMABLE:
            raise UserError(
                f"trim = True: {config['model']} may read padding; leave trim out, or use it with this package's "
                f"models and with {', '.join(sorted(TRIMMABLE))}"
            )
        self.trim = ours if config["trim"] is None else bool(config["trim"])
        self.items_only = ours  # our models read the list of items, RecBole's may read any
        super().__init__(config)

    def data_augmentation(self):
        self._aug_presets()
        self._check_field("uid_field", "time_field")
        self.sort(by=[self.uid_field, self.time_field])
        columns = dict(self.inter_feat.interaction)
        target, length = prefix_rows(columns[self.uid_field], self.max_item_list_len)
        if not len(target):
            raise UserError(f"dataset={self.dataset_name}: no user has two interactions, so there is none to predict")
        listed = [self.iid_field] if self.items_only else [name for name in columns if name != self.uid_field]
        lists = {getattr(self, f"{name}_list_field"): name for name in listed}
        log = Log(columns, lists, self.item_list_length_field, self.max_item_list_len)
        names = [*columns, self.item_list_length_field, *lists]
        self.inter_feat = Prefixes(PrefixColumns(log, target, length, names, {}))

    def __getitem__(self, index, join=True):
        if not isinstance(self.inter_feat, Prefixes):
            return super().__getitem__(index, join)
        batch = self.inter_feat[index].gather(self.trim)
        return self.join(batch) if join else batch

    def build(self):
        parts = super().build()
        for phase, part in zip(("valid", "test"), parts[1:]):
            # Sampled evaluation joins a batch of each user: they must be equally wide.
            part.trim = self.trim and self.config["eval_args"]["mode"][phase] == "full"
        return parts

    def inter_matrix(self, form="coo", value_field=None):
        """Users x items. A user's first interaction is no row's target: it is taken from the history of length 1."""
        if not isinstance(self.inter_feat, Prefixes):
            return super().inter_matrix(form, value_field)
        rows = self.inter_feat.interaction
        index = torch.cat([rows.target, rows.target[rows.length == 1] - 1])
        names = {self.uid_field, self.iid_field, value_field} - {None}
        table = Interaction({name: rows.log.columns[name][index] for name in names if name in rows.log.columns})
        return self._create_sparse_matrix(table, self.uid_field, self.iid_field, form, value_field)


def prefix_rows(users: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Number of the target, and length of its history (at most `limit`), of every interaction that has a history.

    Args:
        users: (interactions,), each user's in one piece.
    """
    number = torch.arange(len(users))
    starts = torch.ones(len(users), dtype=torch.bool)
    starts[1:] = users[1:] != users[:-1]
    position = number - torch.where(starts, number, 0).cummax(0).values
    target = position.nonzero().squeeze(1)
    return target, position[target].clamp(max=limit)
