"""Means over users with intervals, and paired differences of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from recbole_attn.compare.statistics import LEVEL


class Estimate(NamedTuple):
    """A mean over users with its 95 % interval, each an array of one shape; NaN where fewer than two users count."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    users: np.ndarray

    @property
    def certain(self) -> np.ndarray:
        """Whether the interval leaves 0 out."""
        return (self.low > 0) | (self.high < 0)

    def at(self, *index) -> Estimate:
        """One cell, or some."""
        return Estimate(*(np.asarray(column)[index] for column in self))


def estimate(values: np.ndarray) -> Estimate:
    """The mean over the first axis, users, with Student's interval; a user whose value is NaN does not count."""
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    users = known.sum(0)
    enough = np.where(users > 1, users, np.nan)
    mean = np.where(known, values, 0).sum(0) / enough
    spread = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / (enough - 1) / enough)
    reach = stats.t.ppf((1 + LEVEL) / 2, enough - 1) * spread
    return Estimate(mean, mean - reach, mean + reach, users)
