"""Vectors from a file: .npz with `ids` and `vectors`, or .npy beside a text file of ids."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recbole_attn.errors import UserError
from recbole_attn.semantic_ids.vectors import ItemVectors

_LARGEST = 1e15


def read_vectors(path: Path) -> tuple[list[str], np.ndarray]:
    """Item ids (n,) and their vectors (n, V).

    `x.npz` holds both, as `ids` and `vectors`; beside `x.npy` lies `x.ids`, a text file with one id a line.

    Raises:
        UserError: no such file, or not of this form.
    """
    try:
        ids, vectors = _read_npz(path) if path.suffix == ".npz" else _read_npy(path)
    except KeyError as error:
        raise UserError(
            f"item_vectors={path}: has no array {error}; save it with np.savez(path, ids=, vectors=)"
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"item_vectors={path}: cannot be read ({' '.join(str(error).split())}); give an .npz with ids (as text, "
            "ids.astype(str)) and vectors, or an .npy with one id a line in the .ids file beside it"
        ) from error
    return ids, vectors


def _read_npz(path: Path) -> tuple[list[str], np.ndarray]:
    file = np.load(path, allow_pickle=False)
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError("it holds one array, as .npy does")
    with file:
        ids, vectors = file["ids"], file["vectors"]
    if ids.ndim != 1:
        raise ValueError(f"ids have shape {ids.shape}, not one dimension")
    return list(map(str, np.char.decode(ids, "utf-8") if ids.dtype.kind == "S" else ids)), vectors


def _read_npy(path: Path) -> tuple[list[str], np.ndarray]:
    ids = path.with_suffix(".ids").read_text(encoding="utf-8-sig").split("\n")
    with path.open("rb") as file:
        return ids, np.lib.format.read_array(file, allow_pickle=False)


def match(path: Path, ids: Sequence[str], vectors: np.ndarray, item_ids: Sequence[str]) -> ItemVectors:
    """The vectors of `item_ids`, in their order.

    Raises:
        UserError: vectors of another shape than ids, ids that are missing or come twice, values that are not finite, or
            too large.
    """
    ids = list(ids[:-1]) if ids and ids[-1] == "" else list(ids)
    if vectors.ndim != 2 or len(vectors) != len(ids) or not vectors.shape[1]:
        shape = f"vectors have shape {vectors.shape}, not ({len(ids)} ids, dimensions)"
        raise UserError(f"item_vectors={path}: {shape}; save one row of numbers for each id")
    if not np.issubdtype(vectors.dtype, np.number) or np.iscomplexobj(vectors):
        raise UserError(f"item_vectors={path}: vectors hold {vectors.dtype}, not real numbers; save them as float32")
    row = {item: number for number, item in enumerate(ids)}
    if len(row) < len(ids):
        twice = next(item for number, item in enumerate(ids) if row[item] != number)
        raise UserError(f"item_vectors={path}: item {twice} comes twice; keep one vector an item")
    missing = [item for item in item_ids if item not in row]
    if missing:
        raise UserError(
            f"item_vectors={path}: lacks {len(missing)} of {len(item_ids)} items, {missing[0]} for one "
            f"(there: {', '.join(ids[:2]) or 'none'}); add their vectors, or use item_vectors=text"
        )
    chosen = np.asarray(vectors)[[row[item] for item in item_ids]].astype(np.float64)
    broken = ~np.isfinite(chosen).all(1)
    if broken.any():
        first, others = item_ids[int(broken.argmax())], int(broken.sum()) - 1
        too = f", as do {others} others" if others else ""
        raise UserError(
            f"item_vectors={path}: the vector of item {first} holds NaN or infinity{too}; mend or recompute them"
        )
    large = (np.abs(chosen) > _LARGEST).any(1)
    if large.any():
        raise UserError(
            f"item_vectors={path}: the vector of item {item_ids[int(large.argmax())]} holds a number beyond "
            f"{_LARGEST:.0e}, whose square no quantiser can compute with; scale the vectors, or leave out what it marks"
        )
    return ItemVectors(chosen, np.ones(len(chosen), dtype=bool))
