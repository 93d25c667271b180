"""A metric against noise in the test histories: the models as trained, histories that are not as they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recbole_attn.analysis.cases import Cases
from recbole_attn.analysis.noise import KINDS, disturb
from recbole_attn.analysis.scores import ndcg, ranks

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
DRAWS = 2


class Robustness(NamedTuple):
    """NDCG@k of every user under noise.

    Attributes:
        values: (trainings, draws, kinds, shares, users); the first share is 0.
        kinds, shares: names and values of those axes.
    """

    values: np.ndarray
    kinds: Sequence[str]
    shares: Sequence[float]

    @property
    def curve(self) -> np.ndarray:
        """(kinds, shares) the mean over users, draws and trainings."""
        return self.values.mean((0, 1, 4))

    @property
    def spread(self) -> np.ndarray:
        """(kinds, shares) deviation of the mean over users between trainings and draws; NaN where there is one."""
        means = self.values.mean(4).reshape(-1, len(self.kinds), len(self.shares))
        return means.std(0, ddof=1) if len(means) > 1 else np.full(means.shape[1:], np.nan)

    @property
    def loss(self) -> np.ndarray:
        """(users, kinds) what the largest share costs each user, averaged over draws and trainings."""
        by_user = self.values.mean((0, 1))
        return (by_user[:, 0] - by_user[:, -1]).T


def robustness(
    models: Sequence,
    cases: Cases,
    n_items: int,
    k: int,
    *,
    kinds: Sequence[str] = KINDS,
    shares: Sequence[float] = SHARES,
    draws: int = DRAWS,
) -> Robustness:
    """Score all cases under every kind and share of noise, with `draws` draws; every model meets the same noise.

    Args:
        models: trainings of one model.
        n_items: N, padding counted.
        k: of NDCG@k.
        shares: the first one must be 0.

    Raises:
        ValueError: the first share is not 0.
    """
    if shares[0] != 0:
        raise ValueError(f"shares must begin with 0, not {shares[0]}")
    values = np.empty((len(models), draws, len(kinds), len(shares), len(cases.user)))
    clean = [ndcg(ranks(model, cases), k) for model in models]
    for draw in range(draws):
        for kind, name in enumerate(kinds):
            values[:, draw, kind, 0] = clean
            for level, share in enumerate(shares[1:], 1):
                noisy = disturb(cases, name, share, n_items, seed=draw)
                values[:, draw, kind, level] = [ndcg(ranks(model, noisy), k) for model in models]
    return Robustness(values, tuple(kinds), tuple(shares))
