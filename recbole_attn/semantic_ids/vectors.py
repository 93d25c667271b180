"""Vectors of items, and how they are made ready for a quantiser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from recbole_attn.errors import UserError


class ItemVectors(NamedTuple):
    """Vectors (n, V) of all items but padding, and which items (n,) bool have one of their own."""

    values: np.ndarray
    known: np.ndarray


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are made in one order, so that one seed gives one result whatever the number of cores."""
    with threadpool_limits(1):
        yield


def truncated_svd(matrix, size: int, seed: int, fitted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, size) of U·S for a sparse matrix (n, m), and S (size,); fewer columns where its rank admits no more.

    Args:
        fitted: (n,) bool, the rows that dimensions are made of; all by default. The others are put into them.
    """
    from sklearn.decomposition import TruncatedSVD  # slow to import, and most runs make no codes

    chosen = matrix if fitted is None else matrix[np.flatnonzero(fitted)]
    possible = max(1, min(size, min(chosen.shape) - 1))
    if min(chosen.shape) < 2:
        return matrix.toarray()[:, :1], np.ones(1)
    svd = TruncatedSVD(possible, n_iter=7, random_state=seed).fit(chosen)
    kept = svd.singular_values_ > 1e-6 * max(svd.singular_values_[0], 1e-12)
    kept[0] = True
    return svd.transform(matrix)[:, kept], svd.singular_values_[kept]


def prepare(vectors: ItemVectors, fitted: np.ndarray, size: int, whiten: bool, seed: int) -> np.ndarray:
    """Principal components (n, at most `size`) of the vectors, float32; an item without a vector gets their mean.

    Args:
        fitted: (n,) bool, the items that mean and components are computed on: those of the training sequences.
        whiten: give every component the same variance.

    Raises:
        UserError: fewer than two items are left to fit on, or they have one vector.
    """
    from sklearn.decomposition import PCA

    fitted = fitted & vectors.known
    if fitted.sum() < 2:
        raise UserError(
            f"item_vectors: {int(fitted.sum())} items in training have a vector, and a quantiser needs at least 2; "
            "use quantizer=random, or more data"
        )
    values = np.where(vectors.known[:, None], vectors.values, 0.0).astype(np.float64)
    if not np.ptp(values[fitted], axis=0).any():
        raise UserError(
            "item_vectors: all items in training have the same vector, so that codes could not tell them apart; give "
            "other vectors, or use item_vectors=interactions"
        )
    rank = min(size, values.shape[1], int(fitted.sum()) - 1)
    pca = PCA(rank, whiten=whiten, svd_solver="auto", random_state=seed).fit(values[fitted])
    kept = pca.explained_variance_ > 1e-9 * max(pca.explained_variance_[0], 1e-30)
    kept[0] = True
    components = pca.transform(values)[:, kept]
    components[~vectors.known] = 0.0
    _say_what_lacks(vectors.known)
    return np.ascontiguousarray(components, dtype=np.float32)


def _say_what_lacks(known: np.ndarray) -> None:
    if not known.all():
        getLogger().warning(
            f"{int((~known).sum())} of {len(known)} items have nothing to make a vector of: they get the mean of the "
            "others, and so the same codes"
        )
