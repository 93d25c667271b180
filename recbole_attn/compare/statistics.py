"""Is a difference more than chance? Rows are paired by user: what a user's test says twice is one observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000
_DRAWS_AT_ONCE = 10_000_000  # numbers held in memory while resampling


class Comparison(NamedTuple):
    """A row against the baseline, per user.

    Attributes:
        difference: mean of row minus baseline; positive where the row is better.
        low, high: 95 % bootstrap interval of the difference.
        p: two-sided paired t-test; 1 where no user differs, or fewer than two are shared.
        p_bootstrap: two-sided, from the resampled means.
        effect: Cohen's d of paired values: mean difference over its standard deviation; nan, as are the bounds, where
            fewer than two users are shared.
        users: number of pairs.
    """

    difference: float
    low: float
    high: float
    p: float
    p_bootstrap: float
    effect: float
    users: int


def by_user(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> pd.Series:
    """User -> value: targets averaged within each seed, then seeds.

    Args:
        rows: for each seed the users (rows,) and the values (rows,).
    """
    seeds = [pd.Series(values).groupby(users).mean() for users, values in rows]
    return pd.concat(seeds, axis=1).mean(axis=1)


def compare_paired(row: pd.Series, baseline: pd.Series, seed: int = 0) -> Comparison:
    """Compare two rows over the users they share. The seed is that of the bootstrap."""
    row, baseline = row.align(baseline, join="inner")
    differences = (row - baseline).to_numpy()
    mean = float(differences.mean()) if len(differences) else np.nan
    if len(differences) < 2:  # they say nothing of how users differ
        return Comparison(mean, np.nan, np.nan, 1.0, 1.0, np.nan, len(differences))
    spread = float(differences.std(ddof=1))
    if spread == 0:  # the t statistic is 0/0, or infinite, and resampling would only repeat the mean
        certain = 1.0 if mean == 0 else 0.0
        return Comparison(mean, mean, mean, certain, certain, 0.0 if mean == 0 else np.inf, len(differences))
    means = resampled_means(differences, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    p = float(stats.ttest_1samp(differences, 0, alternative="two-sided").pvalue)
    return Comparison(mean, float(low), float(high), p, _p_of(means), mean / spread, len(differences))


def resampled_means(values: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """(RESAMPLES,) means of samples with replacement.

    Users with one value are drawn together: most differences of a metric are equal, many of them 0.
    """
    distinct, counts = np.unique(values, return_counts=True)
    at_once = max(1, _DRAWS_AT_ONCE // len(distinct))
    means = []
    for start in range(0, RESAMPLES, at_once):
        drawn = draw.multinomial(len(values), counts / len(values), size=min(at_once, RESAMPLES - start))
        means.append(drawn @ distinct / len(values))
    return np.concatenate(means)


def _p_of(means: np.ndarray) -> float:
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    return float(min(1.0, 2 * (beyond + 1) / (len(means) + 1)))


def holm(p_values: Mapping) -> dict:
    """p-values corrected for their number by Holm's method, by the same keys."""
    ordered = sorted(p_values, key=p_values.__getitem__)
    corrected, largest = {}, 0.0
    for position, key in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - position) * p_values[key]))
        corrected[key] = largest
    return corrected


def marks(p: float) -> str:
    """Stars of a corrected p-value."""
    return "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else ""
