"""Which of two interactions came first.

RecBole casts times to float32 before it sorts, and Unix seconds are exact to 64 s only in float32. Its sort is
stable and the cast is monotone: t <= u implies float32(t) <= float32(u). Rows that stand in exact order before the
cast are therefore left so by every later sort by time, and `exact` only has to put them there once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from recbole.utils import FeatureSource, FeatureType

from recbole_attn.data.files import DataFiles
from recbole_attn.errors import UserError

ORDERS = ("exact", "recbole", "file")


class TimeOrder(DataFiles):
    """A data set in its order: `time_order` is exact (float64 times, ties by file order), recbole or file."""

    time_field: str

    @property
    def time_order(self) -> str:
        """The setting.

        Raises:
            UserError: it is none of the three.
        """
        order = self.config["time_order"] or "exact"
        if order not in ORDERS:
            raise UserError(f"time_order={order}: must be one of {', '.join(ORDERS)}")
        return order

    def _load_inter_feat(self, token, dataset_path):
        super()._load_inter_feat(token, dataset_path)
        if self.time_order == "file":
            self._number_the_rows()
        elif self._sorts_by_time():
            self._require_column("TIME_FIELD", "name another, add it to load_col, or set time_order: file")
            self._require_numbers()

    def _require_numbers(self):
        """Tokens are numbered as they come, and would be sorted so.

        Raises:
            UserError: the times are no numbers.
        """
        kind = self.field2type[self.time_field]
        if kind != FeatureType.FLOAT:
            raise UserError(
                f"TIME_FIELD={self.time_field}: is a column of type {kind.value}, which has no order; write "
                f"{self.time_field}:float in the header, or set time_order: file"
            )

    def _number_the_rows(self):
        self.time_field = self.time_field or "timestamp"
        self.inter_feat[self.time_field] = np.arange(len(self.inter_feat), dtype=np.float64)
        self.set_field_property(self.time_field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)
        self.field2bucketnum[self.time_field] = 2

    def _sorts_by_time(self):
        return self.config["benchmark_filename"] is None and self.config["eval_args"]["order"] == "TO"

    def _reset_index(self):
        # Its labels are the rows of the file, which removing duplicates may have shuffled.
        self._file_row = self.inter_feat.index.to_numpy()
        super()._reset_index()

    def _fill_nan(self):
        if self._sorts_by_time():
            self._require_times()
        super()._fill_nan()
        # Here ids are numbered and times are complete, but neither normalised nor cut into buckets.
        if self._sorts_by_time() and self.time_order != "recbole":
            rows = self._file_row[self.inter_feat.index]
            order = _stable_order(self.inter_feat[self.time_field].to_numpy(), rows)
            for field in self.inter_feat:  # column by column: a sorted copy of all would double the memory
                self.inter_feat[field] = self.inter_feat[field].to_numpy()[order]
        self.__dict__.pop("_file_row", None)

    def _require_times(self):
        """RecBole would put the mean time where one is missing.

        Raises:
            UserError: naming the first row without a time.
        """
        wrong = ~np.isfinite(self.inter_feat[self.time_field].to_numpy(np.float64))
        if wrong.any():
            first = self.inter_feat.index[wrong.argmax()]
            file, row = Path(self.dataset_path, f"{self.dataset_name}.inter"), self._file_row[first] + 1
            raise UserError(
                f"{file}, row {row} below the header: {self.time_field} is missing or infinite; "
                "fill it in, drop the row, or set time_order: file"
            )

    def _change_feat_format(self):
        if self._sorts_by_time() and isinstance(self.inter_feat, pd.DataFrame):
            self._report_order()
        super()._change_feat_format()

    def _report_order(self):
        times = self.inter_feat[self.time_field].to_numpy()
        if times.dtype == object:  # a numerical feature: pairs of a value and its bucket
            times = np.stack(times)[:, 0]
        times = times.astype(np.float32 if self.time_order == "recbole" else np.float64)
        users = self.inter_feat[self.uid_field].to_numpy()
        self.logger.info(
            f"time_order: {self.time_order}; {count_ties(users, times)} of {len(times)} interactions "
            "share their timestamp with a neighbour of the same user"
        )


def _stable_order(times, rows):
    if (rows[1:] > rows[:-1]).all():
        return np.argsort(times, kind="stable")
    return np.lexsort((rows, times))


def count_ties(users: np.ndarray, times: np.ndarray) -> int:
    """How many interactions have the time of the one before or after them in their user's history."""
    order = np.lexsort((times, users))
    users, times = users[order], times[order]
    same = np.zeros(len(users) + 1, dtype=bool)
    same[1:-1] = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return int((same[1:] | same[:-1]).sum())
