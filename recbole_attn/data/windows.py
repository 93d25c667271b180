"""Whole sequences in one pass: windows of a history in which every training target is counted exactly once.

A window gives a causal model L items and asks for the next one after each of them, where prefix training gives one
row a target. The first window of a history counts its targets 1 … L. Every later one is shifted so that a target
sees at least half of L earlier items, and counts only the targets that no window before it has counted.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.utils.data import Sampler

from recbole_attn.data.buckets import bucket_of, checked_buckets
from recbole_attn.errors import UserError


class Windows(NamedTuple):
    """Windows over the log of interactions.

    Attributes:
        start: (W,) number of the first item in the log.
        length: (W,) items that are read: the last counted target is the item after them.
        targets: (W,) how many targets are counted.
        counted_in: (interactions,) the window that counts an interaction as its target, -1 for none.
    """

    start: Tensor
    length: Tensor
    targets: Tensor
    counted_in: Tensor


def windows_of(users: Tensor, target: Tensor, width: int) -> Windows:
    """The windows of all training targets.

    Args:
        users: (interactions,) the log's users, each one's interactions in one piece and in order of time.
        target: (rows,) numbers of the interactions to be predicted in training; none is its user's first.
        width: L, the longest history that a model reads.
    """
    target = target.sort().values
    new_user = torch.ones(len(users), dtype=torch.bool)
    new_user[1:] = users[1:] != users[:-1]
    first = torch.where(new_user, torch.arange(len(users)), 0).cummax(0).values[target]
    stride = width - (width + 1) // 2 + 1
    shift = (target - first - width + stride - 1).div(stride, rounding_mode="floor").clamp(min=0) * stride
    start, window, targets = torch.unique_consecutive(first + shift, return_inverse=True, return_counts=True)
    last = torch.zeros_like(start).scatter_reduce_(0, window, target, "amax")
    counted_in = torch.full((len(users),), -1)
    counted_in[target] = window
    return Windows(start, last - start, targets, counted_in)


class WindowLoader(TrainDataLoader):
    """RecBole's training loader over windows; `train_batch_size` counts targets.

    A batch holds the item lists (B, n) and their lengths (B,) as a batch of prefixes does, and as the item column
    the targets (B, n): the item after each one of the list, 0 where it is not counted. With pairwise losses the
    negative items (B, n) are uniform over all items but the target.
    """

    def __init__(self, config, dataset, sampler, shuffle=True):
        if not config["single_spec"]:
            raise UserError("training=sequence: runs in one process; set nproc=1, or training=prefix")
        rows = dataset.inter_feat.interaction
        self.log, self.item_field, self.user_field = rows.log, dataset.iid_field, dataset.uid_field
        self.windows = windows_of(rows.log.columns[dataset.uid_field], rows.target, rows.log.width)
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        bucket = None
        if config["length_buckets"] is not None:
            buckets = checked_buckets(config, shuffle)
            bucket = bucket_of(self.windows.length.numpy(), buckets, self.windows.targets.numpy())
        batches = WindowBatches(self, config["train_batch_size"], bucket)
        object.__setattr__(self, "batch_sampler", batches)  # torch lets it be chosen in a constructor that is RecBole's

    def collate_fn(self, index):
        chosen = torch.tensor(index)
        items, users = self.log.columns[self.item_field], self.log.columns[self.user_field]
        start, length = self.windows.start[chosen], self.windows.length[chosen]
        place = torch.arange(int(length.max()))
        number = start.unsqueeze(-1) + place
        read = place < length.unsqueeze(-1)
        following = (number + 1).clamp(max=len(items) - 1)
        counted = read & (self.windows.counted_in[following] == chosen.unsqueeze(-1))
        target = items[following] * counted
        columns = {
            self.user_field: users[start],
            self.item_field: target,
            self.item_field + self.config["LIST_SUFFIX"]: items[number.clamp(max=len(items) - 1)] * read,
            self.config["ITEM_LIST_LENGTH_FIELD"]: length,
        }
        if self.neg_sample_args["distribution"] != "none":
            columns[self.config["NEG_PREFIX"] + self.item_field] = _others(target, self._dataset.item_num)
        return Interaction(columns)


class WindowBatches(Sampler):
    """Every window once, in batches of about equally many targets; randomness comes from the loader's generator.

    Args:
        bucket: (W,) windows are shuffled, sorted by it, cut into batches, and the batches shuffled; None: not sorted.
    """

    def __init__(self, loader: WindowLoader, batch_size: int, bucket: Tensor | None = None):
        self.loader, self.targets, self.bucket = loader, loader.windows.targets, bucket
        # A window is never divided: where it has more targets than a batch, it is one.
        self.batches = min(len(self.targets), -(-int(self.targets.sum()) // batch_size))

    def __len__(self):
        return self.batches

    def __iter__(self):
        order = torch.arange(len(self.targets))
        if self.loader.shuffle:
            order = torch.randperm(len(order), generator=self.loader.generator)
        if self.bucket is not None:
            order = order[self.bucket[order].argsort(stable=True)]
        size = self.targets[order]
        middle = size.cumsum(0) - (size + 1) // 2
        batch = middle * self.batches // int(size.sum())
        parts = order.split(torch.bincount(batch, minlength=self.batches).tolist())
        turn = torch.arange(len(parts))
        if self.bucket is not None:
            turn = torch.randperm(len(parts), generator=self.loader.generator)
        for number in turn.tolist():
            if len(parts[number]):
                yield parts[number].tolist()


def _others(target: Tensor, n_items: int) -> Tensor:
    """One item for each target, uniform over 1 … n_items - 1 without the target itself."""
    if n_items < 3:
        raise UserError("training=sequence: a pairwise loss needs at least two items")
    shift = torch.randint(1, n_items - 1, target.shape)
    return ((target - 1 + shift) % (n_items - 1) + 1) * (target != 0)
