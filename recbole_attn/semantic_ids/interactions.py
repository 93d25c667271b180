"""Vectors from training interactions: PPMI of item pairs that stand close together → truncated SVD.

PPMI(i, j) = max(0, log(c(i, j) · c / (c(i) · c(j)))),   rows of U·√S     (Levy and Goldberg, NIPS 2014)
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recbole_attn.semantic_ids.vectors import ItemVectors, truncated_svd


def ppmi(earlier: np.ndarray, later: np.ndarray, n_items: int) -> sparse.csr_matrix:
    """Positive pointwise mutual information (n_items, n_items), symmetric, of pairs (P,) of items from 0."""
    rows, columns = np.concatenate([earlier, later]), np.concatenate([later, earlier])
    counts = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_items, n_items)).tocsr()
    counts.sum_duplicates()
    single = np.asarray(counts.sum(1)).ravel()
    pairs = counts.tocoo()
    information = np.log(pairs.data * single.sum() / (single[pairs.row] * single[pairs.col]))
    positive = information > 0
    where = (pairs.row[positive], pairs.col[positive])
    return sparse.csr_matrix((information[positive], where), shape=(n_items, n_items))


def interaction_vectors(earlier: np.ndarray, later: np.ndarray, n_items: int, size: int, seed: int) -> ItemVectors:
    """Vectors of at most `size` dimensions. An item without a pair has none.

    Args:
        earlier, later: (P,) pairs of items, counted from 0, that are close in a training sequence.
    """
    matrix = ppmi(earlier, later, n_items)
    known = np.diff(matrix.indptr) > 0
    # Without the others' empty rows, so that how many items there are besides changes nothing.
    seen = np.flatnonzero(known)
    rows, singular_values = truncated_svd(matrix[seen][:, seen], size, seed)
    values = np.zeros((n_items, rows.shape[1]))
    values[seen] = rows / np.sqrt(np.maximum(singular_values, 1e-12))
    return ItemVectors(values, known)
