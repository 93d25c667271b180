"""Where a model is better: users and targets in groups, each compared pair by pair with the control."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from recbole_attn.analysis.cases import Cases
from recbole_attn.analysis.estimates import Estimate, estimate
from recbole_attn.compare.report.figures import group_edges
from recbole_attn.compare.statistics import Comparison, compare_paired

KEYS = {
    "history": "earlier interactions of the user",
    "popularity": "interactions of the target in training",
    "gap": "time since the last item",
    "related": "steps back to the item most related to the target",
}


class Groups(NamedTuple):
    """Cases in groups of about equal size.

    Attributes:
        key: one of `KEYS`.
        edges: first and last value of each group.
        member: (U,) number of each case's group, -1 where its value is not known.
    """

    key: str
    edges: list[tuple[int, int]]
    member: np.ndarray

    def means(self, values: np.ndarray) -> Estimate:
        """Mean of (U,) values in each group, with its interval; each part (groups,)."""
        parts = [estimate(values[self.member == group]) for group in range(len(self.edges))]
        return Estimate(*(np.array(column) for column in zip(*parts)))

    def against(self, values: np.ndarray, control: np.ndarray, users: np.ndarray) -> list[Comparison]:
        """The paired comparison in each group."""
        members = [self.member == group for group in range(len(self.edges))]
        return [paired(values[member], control[member], users[member]) for member in members]


def group(cases: Cases, key: str) -> Groups | None:
    """Cases by one of `KEYS`; None where its value is known of no case."""
    values = np.asarray(getattr(cases, key), dtype=np.float64)
    known = np.isfinite(values)
    if not known.any():
        return None
    edges = group_edges(values[known].astype(np.int64))
    lows = np.array([low for low, _ in edges])
    member = np.searchsorted(lows, np.where(known, values, 0), side="right") - 1
    return Groups(key, edges, np.where(known, member, -1))


def paired(values: np.ndarray, control: np.ndarray, users: np.ndarray) -> Comparison:
    """Compare (U,) values of cases with those of the control, per user."""
    by_user = [pd.Series(column).groupby(users).mean() for column in (values, control)]
    return compare_paired(*by_user)


class Sides(NamedTuple):
    """How many users a model serves better, alike and worse than the control."""

    better: int
    alike: int
    worse: int


def sides(values: np.ndarray, control: np.ndarray, users: np.ndarray) -> Sides:
    """Count users by the sign of their difference."""
    difference = pd.Series(values - control).groupby(users).mean().to_numpy()
    return Sides(int((difference > 0).sum()), int((difference == 0).sum()), int((difference < 0).sum()))
