"""Vectors from item columns, offline: words, tokens and numbers → TF-IDF → truncated SVD."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recbole_attn.semantic_ids.vectors import ItemVectors, truncated_svd

_WORD = re.compile(r"[^\W_]+")
_BINS = 10


class Column(NamedTuple):
    """One column of the item table.

    Attributes:
        kind: "text" (words count), "token" (the value as a whole counts) or "number".
        values: one for each item but padding: text or None; for numbers (n,) float, NaN where there is none.
    """

    name: str
    kind: str
    values: Sequence


def features(column: Column, fitted: np.ndarray) -> list[list[str]]:
    """What TF-IDF counts, item by item: words, for tokens also `column=value`, for numbers `column#decile`.

    Args:
        fitted: (n,) bool, the items whose numbers make the deciles.
    """
    if column.kind == "number":
        return _deciles(column, fitted)
    texts = [(value or "").strip().lower() for value in column.values]
    whole = [[f"{column.name}={text}"] if text and column.kind == "token" else [] for text in texts]
    return [first + _WORD.findall(text) for first, text in zip(whole, texts)]


def _deciles(column: Column, fitted: np.ndarray) -> list[list[str]]:
    values = np.asarray(column.values, dtype=np.float64)
    known = np.isfinite(values)
    if not (known & fitted).any():
        return [[] for _ in values]
    edges = np.unique(np.quantile(values[known & fitted], np.arange(1, _BINS) / _BINS))
    bins = np.searchsorted(edges, values, side="right")
    return [[f"{column.name}#{number}"] if there else [] for number, there in zip(bins, known)]


def text_vectors(columns: Sequence[Column], fitted: np.ndarray, size: int, seed: int) -> ItemVectors | None:
    """TF-IDF of all columns together, reduced to at most `size` dimensions; None where no two items are alike in any
    word and unlike in another.

    Args:
        fitted: (n,) bool, the items that weights and dimensions are made of: those of the training sequences, so that
            which items occur later changes nothing.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import, as that of `truncated_svd`

    parts = zip(*(features(column, fitted) for column in columns))
    documents = [[word for words in item for word in words] for item in parts]
    learned = [document for document, is_fitted in zip(documents, fitted) if is_fitted]
    having = Counter(word for document in learned for word in set(document))
    if not any(1 < count < len(learned) for count in having.values()):
        return None
    matrix = TfidfVectorizer(analyzer=_as_it_is, sublinear_tf=True, min_df=2).fit(learned).transform(documents)
    rows, _ = truncated_svd(matrix, size, seed, fitted)
    return ItemVectors(rows, np.diff(matrix.indptr) > 0)


def _as_it_is(document: list[str]) -> list[str]:
    return document


def sentences(columns: Sequence[Column]) -> list[str]:
    """One text for each item, for a sentence encoder: `name: value` of the columns that have one; "" without any."""
    return [". ".join(filter(None, parts)) for parts in zip(*map(_phrases, columns))]


def _phrases(column: Column) -> list[str]:
    if column.kind == "number":
        return [f"{column.name}: {value:g}" if np.isfinite(value) else "" for value in column.values]
    return [
        f"{column.name}: {value.strip().replace('_', ' ')}" if value and value.strip() else ""
        for value in column.values
    ]
