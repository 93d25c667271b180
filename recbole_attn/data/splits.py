"""RecBole's splits without its loops over rows: the same rows in the same order."""

from __future__ import annotations

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset

from recbole_attn.errors import UserError


class Groups:
    """Row numbers by group: groups in order of first appearance, rows ascending within each.

    Args:
        keys: (rows,) the group of each row.
    """

    def __init__(self, keys: np.ndarray):
        codes, _ = pd.factorize(keys)
        self.order = np.argsort(codes, kind="stable")
        self.counts = np.bincount(codes)

    def __len__(self):
        return len(self.counts)

    def __iter__(self):
        return iter(np.split(self.order, np.cumsum(self.counts)[:-1]))

    def cut(self, cuts: np.ndarray) -> list[np.ndarray]:
        """Cut every group at the positions of its row of `cuts` (groups, parts - 1), ascending; rows by part."""
        starts = np.cumsum(self.counts) - self.counts
        position = np.arange(len(self.order)) - np.repeat(starts, self.counts)
        part = sum(position >= np.repeat(cut, self.counts) for cut in cuts.T)
        return [self.order[part == number] for number in range(cuts.shape[1] + 1)]


class Splits(Dataset):
    """A data set that is split by arrays. Goes with `TimeOrder`.

    Raises:
        UserError: the split leaves nothing to train on.
    """

    def build(self):
        parts = super().build()
        if not len(parts[0]):
            setting = self.config["eval_args"]["split"]
            raise UserError(f"eval_args.split={setting}: leaves no rows of {self.dataset_name} to train on")
        return parts

    def _grouped_index(self, group_by_list):
        return Groups(np.asarray(group_by_list))

    def _split_index_by_leave_one_out(self, grouped_index, leave_one_num):
        cuts = grouped_index.counts[:, None] - np.arange(leave_one_num, 0, -1)
        return grouped_index.cut(np.maximum(cuts, 1))  # the first row of a group is always for training

    def split_by_ratio(self, ratios, group_by=None):
        if group_by is None:
            return super().split_by_ratio(ratios, group_by)
        groups = self._grouped_index(self.inter_feat[group_by].numpy())
        shares = [ratio / sum(ratios) for ratio in ratios]
        sizes, inverse = np.unique(groups.counts, return_inverse=True)
        cuts = np.array([self._calcu_split_ids(tot=int(size), ratios=shares) for size in sizes])
        return self._parts(groups.cut(cuts[inverse]))

    def time_based_split(self, ratios, group_by):
        if group_by is None or not self._sorts_by_time():
            return super().time_based_split(ratios, group_by)
        shares = [ratio / sum(ratios) for ratio in ratios]
        times = self.inter_feat[self.time_field].numpy()
        early = times <= np.percentile(times, 100 * (1 - shares[-1]))
        groups = self._grouped_index(self.inter_feat[group_by].numpy())
        before = np.add.reduceat(early[groups.order].astype(np.int64), np.cumsum(groups.counts) - groups.counts)
        train = (before * (shares[0] / (1 - shares[2]))).astype(np.int64)
        return self._parts(groups.cut(np.stack([train, before], axis=1)))

    def _parts(self, indices):
        self._drop_unused_col()
        return [self.copy(self.inter_feat[index]) for index in indices]
