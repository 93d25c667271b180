"""Vectors from a sentence encoder (the optional package sentence-transformers), kept on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path

import numpy as np

from recbole_attn.errors import UserError
from recbole_attn.semantic_ids.vectors import ItemVectors


def require_encoder() -> None:
    """Raise UserError where sentence-transformers is not installed."""
    if find_spec("sentence_transformers") is None:
        raise UserError(
            "item_vectors=sentence: sentence-transformers is not installed; pip install sentence-transformers, "
            "or use item_vectors=text"
        )


def sentence_vectors(texts: Sequence[str], model: str) -> ItemVectors:
    """Vectors of one text for each item; an item without text has none. The same texts are encoded once.

    Args:
        model: a name on Hugging Face, or the folder of a model.

    Raises:
        UserError: sentence-transformers is not installed, or there is no such model.
    """
    known = np.array([bool(text) for text in texts])
    kept = cache_folder() / f"{_digest(texts, model)}.npy"
    if kept.is_file():
        found = _kept(kept, len(texts))
        if found is not None:
            getLogger().info(f"sentence vectors of {model}: read from {kept}")
            return ItemVectors(found, known)
        getLogger().warning(f"sentence vectors of {model}: {kept} is damaged; they are made anew")
    values = np.asarray(_encoder(model).encode(list(texts), show_progress_bar=False), dtype=np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"sentence_model={model}: gives vectors with NaN or infinity; use another model")
    _keep(values, kept)
    return ItemVectors(values, known)


def cache_folder() -> Path:
    """Where encoded texts are kept: recbole_attn in XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recbole_attn" / "sentence"


def _encoder(model: str):
    require_encoder()
    try:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(model)
    except Exception as error:  # it loads code and files of many makers
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
        raise UserError(
            f"sentence_model={model}: cannot be loaded ({reason}); give the folder of a model or its name on "
            "Hugging Face, or use item_vectors=text"
        ) from error


def _digest(texts: Sequence[str], model: str) -> str:
    """Of the texts and of the model: its name, or what its folder holds."""
    digest = hashlib.sha256(model.encode())
    for file in sorted(Path(model).rglob("*")) if Path(model).is_dir() else ():
        if file.is_file():
            digest.update(str(file.relative_to(model)).encode() + hashlib.sha256(file.read_bytes()).digest())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()


def _kept(path: Path, n: int) -> np.ndarray | None:
    """The finite vectors (n, V) that were kept, or None where the file holds something else."""
    try:
        with path.open("rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = values.ndim == 2 and len(values) == n and values.dtype == np.float32 and np.isfinite(values).all()
    return values if whole else None


def _keep(values: np.ndarray, path: Path) -> None:
    beside = path.with_name(f"{path.stem}.{os.getpid()}.npy")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(beside, values)
        os.replace(beside, path)
    except OSError as error:
        getLogger().warning(f"sentence vectors are not kept: {path}: {error.strerror}")
