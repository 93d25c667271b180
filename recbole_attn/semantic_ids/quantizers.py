"""Vectors (n, d) → K codes an item: product quantisation with and without a rotation, residual k-means, a control.

pq    code_k = nearest of V centroids to the k-th of K slices of x               (Jégou et al., TPAMI 2011)
opq   pq of R·x, R orthogonal and learned with the centroids                     (Ge et al., CVPR 2013; faiss)
rq    code_k = nearest of V centroids to what codes 1 … k-1 leave of x           (Chen et al., Sensors 2010)
random  drawn uniformly, whatever the item: what is left when codes mean nothing; of the size
        asked for, while the others adapt to the catalogue
"""

from __future__ import annotations

from importlib.util import find_spec
from logging import getLogger
from typing import NamedTuple

import numpy as np

from recbole_attn.errors import UserError

QUANTIZERS = ("opq", "pq", "rq", "random")
_POINTS, _ENOUGH = 39, 256  # training points a centroid: fewer are too few, more are not used (as in faiss)
_ROUNDS = 20  # alternations of rotation and centroids; faiss's default is 50
_CHUNK = 1 << 14


class Sizes(NamedTuple):
    """What is left of n_codes, code_bits and the dimensions after the data has had its say."""

    n_codes: int
    code_bits: int
    dimensions: int


class Quantized(NamedTuple):
    """Codes (n, K) in [0, 2 ** code_bits), and the vectors (n, d) they stand for; None where they stand for none."""

    codes: np.ndarray
    reconstruction: np.ndarray | None


def require_quantizer(name: str) -> None:
    """Raise UserError where `name` is no quantiser, or needs faiss, which is not installed or cannot be imported."""
    if name not in QUANTIZERS:
        raise UserError(f"quantizer={name}: must be one of {', '.join(QUANTIZERS)}")
    if name not in ("opq", "pq"):
        return
    if find_spec("faiss") is None:
        raise UserError(f"quantizer={name}: faiss is not installed; pip install faiss-cpu, or use quantizer=rq")
    try:
        _faiss()
    except Exception as error:  # whatever its compiled parts do not find
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"quantizer={name}: faiss cannot be imported ({reason}); install another faiss-cpu, or use quantizer=rq"
        ) from error


def fit_sizes(quantizer: str, n_codes: int, code_bits: int, dimensions: int, points: int) -> Sizes:
    """The sizes asked for, as far as `points` items of training in `dimensions` carry what is learned; logs changes."""
    bits = max(1, min(code_bits, (points // _POINTS).bit_length() - 1))
    if bits < code_bits:
        getLogger().info(
            f"code_bits = {bits} in place of {code_bits}: {points} items in training make {points / 2**code_bits:.1f} "
            f"points a centroid, where about {_POINTS} are wanted"
        )
    if quantizer == "rq":
        return Sizes(n_codes, bits, dimensions)
    fewer = min(n_codes, dimensions)
    if fewer < n_codes:
        getLogger().info(f"n_codes = {fewer} in place of {n_codes}: the vectors have {dimensions} dimensions")
    kept = dimensions // fewer * fewer
    if kept < dimensions:
        getLogger().info(f"the first {kept} of {dimensions} dimensions are kept: {fewer} codes take slices of one size")
    return Sizes(fewer, bits, kept)


def quantize(vectors: np.ndarray, fitted: np.ndarray, quantizer: str, sizes: Sizes, seed: int) -> Quantized:
    """Codes of all items, by centroids of some.

    Args:
        vectors: (n, d) float32, the weightiest dimensions first: those beyond `sizes.dimensions` are left out.
        fitted: (n,) bool, the items that centroids and rotation are learned from.
    """
    if quantizer == "random":
        return random_codes(len(vectors), sizes, seed)
    kept = np.ascontiguousarray(vectors[:, : sizes.dimensions])
    chosen = _sample(kept[fitted], _ENOUGH << sizes.code_bits, seed)
    if quantizer == "rq":
        return _residual(kept, chosen, sizes, seed)
    rotation = _rotation(chosen, sizes, seed) if quantizer == "opq" else np.eye(sizes.dimensions, dtype=np.float32)
    found = _product(kept @ rotation.T, chosen @ rotation.T, sizes, seed)
    return found._replace(reconstruction=found.reconstruction @ rotation)  # type: ignore[operator]


def random_codes(n: int, sizes: Sizes, seed: int) -> Quantized:
    """The control: uniform codes, by the seed alone."""
    draw = np.random.default_rng(seed)
    return Quantized(draw.integers(1 << sizes.code_bits, size=(n, sizes.n_codes)), None)


def reconstruction_error(vectors: np.ndarray, reconstruction: np.ndarray) -> float:
    """Squared distance of reconstructions (n, d) from vectors (n, d or more), over that from their mean."""
    missed = ((vectors[:, : reconstruction.shape[1]] - reconstruction) ** 2).sum()
    missed += (vectors[:, reconstruction.shape[1] :] ** 2).sum()
    return float(missed / max(((vectors - vectors.mean(0)) ** 2).sum(), 1e-12))


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n,) number of the centroid (V, d) nearest to each vector (n, d)."""
    lengths = (centroids**2).sum(1)
    parts = [vectors[start : start + _CHUNK] for start in range(0, len(vectors), _CHUNK)]
    return np.concatenate([(lengths - 2 * part @ centroids.T).argmin(1) for part in parts])


def _sample(vectors: np.ndarray, most: int, seed: int) -> np.ndarray:
    if len(vectors) <= most:
        return vectors
    return vectors[np.random.default_rng(seed).choice(len(vectors), most, replace=False)]


def _residual(vectors: np.ndarray, chosen: np.ndarray, sizes: Sizes, seed: int) -> Quantized:
    from sklearn.cluster import KMeans  # slow to import, as that of `truncated_svd`

    codes, reconstruction = [], np.zeros_like(vectors)
    for _ in range(sizes.n_codes):
        distinct = len(np.unique(chosen, axis=0))
        means = KMeans(min(1 << sizes.code_bits, distinct), n_init=1, random_state=seed).fit(chosen)
        centroids = means.cluster_centers_.astype(np.float32)
        code = nearest(vectors - reconstruction, centroids)
        codes.append(code)
        reconstruction += centroids[code]
        chosen = chosen - centroids[nearest(chosen, centroids)]
    return Quantized(np.stack(codes, 1), reconstruction)


def _faiss():
    getLogger("faiss.loader").setLevel("WARNING")  # it tells the root logger what it tries, tracebacks included
    import faiss

    return faiss


def _quantizer_of_faiss(sizes: Sizes, seed: int):
    quantizer = _faiss().ProductQuantizer(sizes.dimensions, sizes.n_codes, sizes.code_bits)
    quantizer.cp.seed = seed % (1 << 31)  # faiss has an int
    quantizer.cp.min_points_per_centroid = 1  # `fit_sizes` has spoken of that
    quantizer.cp.max_points_per_centroid = _ENOUGH
    return quantizer


def _rotation(chosen: np.ndarray, sizes: Sizes, seed: int) -> np.ndarray:
    faiss = _faiss()
    matrix = faiss.OPQMatrix(sizes.dimensions, sizes.n_codes)
    quantizer = _quantizer_of_faiss(sizes, seed)  # a name of its own: faiss keeps a bare pointer to it
    matrix.pq, matrix.niter = quantizer, _ROUNDS
    matrix.train(np.ascontiguousarray(chosen))
    return faiss.vector_to_array(matrix.A).reshape(sizes.dimensions, sizes.dimensions)


def _product(vectors: np.ndarray, chosen: np.ndarray, sizes: Sizes, seed: int) -> Quantized:
    quantizer = _quantizer_of_faiss(sizes, seed)
    quantizer.train(np.ascontiguousarray(chosen))
    width = sizes.dimensions // sizes.n_codes
    books = _faiss().vector_to_array(quantizer.centroids).reshape(sizes.n_codes, -1, width)
    slices = np.split(vectors, sizes.n_codes, axis=1)
    codes = [nearest(part, book) for part, book in zip(slices, books)]
    return Quantized(np.stack(codes, 1), np.concatenate([book[code] for book, code in zip(books, codes)], axis=1))
