"""RecBole's filters with their mistakes made visible, and k-core filtering by counting arrays."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

from recbole_attn.errors import UserError

_INTERVAL = re.compile(r"[\[(]\s*([^,\s]+)\s*,\s*([^,\s]+)\s*[\])]")
_COUNTS = ("user_inter_num_interval", "item_inter_num_interval")


class Filters(Dataset):
    """A data set whose filters do not fail in silence.

    Raises:
        UserError: a malformed interval, one of a column that is not loaded, or filters that leave no interactions.
    """

    inter_feat: pd.DataFrame
    user_feat: pd.DataFrame | None
    item_feat: pd.DataFrame | None

    def _data_filtering(self):
        for setting in _COUNTS:
            check_interval(setting, self.config[setting])
        for field, interval in (self.config["val_interval"] or {}).items():
            if field not in self.field2type:
                raise UserError(f"val_interval.{field}={interval}: no column {field} was read; add it to load_col")
            if self.field2type[field] in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                check_interval(f"val_interval.{field}", interval)
        super()._data_filtering()

    def _filter_by_field_value(self):
        super()._filter_by_field_value()
        self._require_rows("val_interval")

    def _filter_inter_by_user_or_item(self):
        super()._filter_inter_by_user_or_item()
        self._require_rows("filter_inter_by_user_or_item")

    def _filter_by_inter_num(self):
        """Drop users and items with too few or too many interactions until none is left.

        A round drops users and items by the counts at its start, as RecBole does: with upper bounds that matters.
        """
        users, items = (self._parse_intervals_str(self.config[setting]) for setting in _COUNTS)
        if users is None and items is None:
            return
        sides = [
            _Side(self.inter_feat[self.uid_field], self.user_feat, self.uid_field, users),
            _Side(self.inter_feat[self.iid_field], self.item_feat, self.iid_field, items),
        ]
        keep = np.ones(len(self.inter_feat), dtype=np.bool_)
        while any([side.ban(keep, self._within_intervals) for side in sides]):  # a list: both must count first
            for side in sides:
                keep = keep & ~side.banned[side.rows]
        self.inter_feat = _kept(self.inter_feat, keep)
        self.user_feat, self.item_feat = (_kept(side.feat, side.known()) for side in sides)
        self._require_rows(*_COUNTS)

    def _require_rows(self, *settings):
        if self.inter_feat.empty:
            used = [name for name in settings if self.config[name] not in (None, "[0,inf)")]
            values = ", ".join(f"{name}={self.config[name]}" for name in used)
            raise UserError(f"{values}: leaves none of the interactions of {self.dataset_name}; widen it")


class _Side:
    """Users or items while they are filtered: rows (interactions,) and others (feature rows,) hold their codes."""

    def __init__(self, column, feat, field, intervals):
        self.feat, self.intervals = feat, intervals
        columns = [column.array] if feat is None else [column.array, feat[field].array]
        tokens = union_categoricals(columns)
        self.rows, self.others = np.split(tokens.codes, [len(column)])
        self.banned = np.zeros(len(tokens.categories), dtype=np.bool_)
        self.listed = np.bincount(self.others, minlength=len(self.banned)) > 0

    def ban(self, keep, within) -> bool:
        """Ban by the number of kept interactions; True if that bans someone new."""
        if not self.intervals:
            return False
        count = np.bincount(self.rows[keep], minlength=len(self.banned))
        new = (count > 0) & ~within(count, self.intervals)
        new |= self.listed & (count < self.intervals[0][1])
        new &= ~self.banned
        self.banned |= new
        return bool(new.any())

    def known(self):
        return ~self.banned[self.others]


def _kept(frame, keep):
    return frame if frame is None or keep.all() else frame.drop(frame.index[~keep])


def check_interval(setting: str, text) -> None:
    """RecBole warns of a malformed interval and goes on without it.

    Raises:
        UserError: `text` is not `[low,high]`, with round brackets where an end is excluded, several parted by `;`.
    """
    if text is None:
        return
    for part in str(text).split(";"):
        match = _INTERVAL.fullmatch(part.strip())
        try:
            low, high = (float(end) for end in match.groups()) if match else (1.0, 0.0)
        except ValueError:
            low, high = 1.0, 0.0
        if not low <= high:
            raise UserError(f"{setting}={text}: {part.strip()!r} is no interval; write for example [5,inf)")
