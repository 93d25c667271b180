"""What the data says of a test target beside its history: when it came, and what it is related to."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from recbole_attn import protocol


class Clock:
    """When things happened, noted before the data is split."""

    def __init__(self, dataset):
        users, times = (np.asarray(dataset.inter_feat[field]) for field in (dataset.uid_field, dataset.time_field))
        order = np.lexsort((times, users))
        self._times = times[order].astype(np.float64)
        self._end = np.bincount(users, minlength=dataset.user_num).cumsum()
        self.known = dataset.time_order == "exact" and not protocol.are_positions(users, times)

    def gaps(self, users: np.ndarray) -> np.ndarray:
        """Time between each row and the interaction before it; the rows of a user are his last ones, in order."""
        if not self.known:
            return np.full(len(users), np.nan)
        back = pd.Series(users).groupby(users).cumcount(ascending=False).to_numpy() + 1
        place = self._end[users] - back
        return self._times[place] - self._times[place - 1]


def steps_to_related(matrix: sparse.csr_matrix, items: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Steps from each target back to its nearest relative in the history, the later one of equally near ones.

    Args:
        matrix: (users, N) what was interacted with in training.
        items: (U, n) histories, padded with 0.
        target: (U,).

    Returns:
        (U,) 1 for the last item; NaN where nobody had the target together with an item of the history.
    """
    had = (matrix > 0).astype(np.float32)
    size = np.sqrt(np.asarray(had.sum(0)).ravel()).clip(1)
    wanted, row = np.unique(target, return_inverse=True)
    together = (had[:, wanted].T @ had).tocsr()
    found = np.asarray(together[np.repeat(row, items.shape[1]), items.ravel()]).reshape(items.shape)
    near = np.where(items > 0, found / size[items], 0)
    latest = items.shape[1] - 1 - near[:, ::-1].argmax(1)
    return np.where(near.max(1) > 0, (items > 0).sum(1) - latest, np.nan)
