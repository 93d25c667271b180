"""Vectors of items for semantic ids, from whichever source the setting `item_vectors` names."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path

import numpy as np

from recbole_attn.data.items import read_item_columns, read_vector_column
from recbole_attn.data.pairs import training_pairs
from recbole_attn.errors import UserError
from recbole_attn.semantic_ids.interactions import interaction_vectors
from recbole_attn.semantic_ids.sentence import sentence_vectors
from recbole_attn.semantic_ids.stored import match, read_vectors
from recbole_attn.semantic_ids.text import Column, sentences, text_vectors
from recbole_attn.semantic_ids.vectors import ItemVectors


def make_vectors(config, dataset, items: list[str]) -> tuple[str, ItemVectors, np.ndarray]:
    """Where they are from, the vectors of `items`, and which of them (n,) bool occur in training.

    Raises:
        UserError: no usable item column; a file that lacks items, holds NaN, or has too few dimensions.
    """
    earlier, later = (side.numpy() - 1 for side in training_pairs(dataset, config["pair_window"]))
    trained = np.zeros(len(items), dtype=bool)
    trained[earlier] = trained[later] = True
    source, size, seed = config["item_vectors"], config["vector_size"], config["seed"]
    if source in (None, "text"):
        vectors = text_vectors(_columns(config, items), trained, size, seed)
        if vectors is not None:
            return "text", vectors, trained
        _no_text(config, source)
        source = "interactions"
    if source == "interactions":
        return source, interaction_vectors(earlier, later, len(items), size, seed), trained
    if source == "sentence":
        texts = sentences(_columns(config, items))
        if not any(texts):
            _no_text(config, source)
        return source, sentence_vectors(texts, config["sentence_model"]), trained
    return str(source), _from_file(config, Path(source), items), trained


def _columns(config, items: list[str]) -> list[Column]:
    """The chosen columns of the data set's .item file; none where there is no file."""
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    if not path.is_file():
        return []
    separator, encoding = config["field_separator"], config["encoding"] or "utf-8"
    return read_item_columns(path, config["ITEM_ID_FIELD"], items, config["item_columns"], separator, encoding)


def _no_text(config, source: str | None) -> None:
    """Say that there is no text; refuse where it was asked for."""
    file = Path(config["data_path"]) / f"{config['dataset']}.item"
    what = f"no usable item column in {file}" if file.is_file() else f"there is no {file}"
    if source is not None or config["item_columns"]:
        raise UserError(f"item_vectors={source}: {what}; name other item_columns, or use item_vectors=interactions")
    getLogger().info(f"item_vectors = interactions: {what}")


def _from_file(config, path: Path, items: list[str]) -> ItemVectors:
    if path.suffix in (".npy", ".npz"):
        ids, values = read_vectors(path)
    else:
        encoding = config["encoding"] or "utf-8"
        separators = config["field_separator"], config["seq_separator"]
        ids, values = read_vector_column(path, config["ITEM_ID_FIELD"], *separators, encoding)
    vectors = match(path, ids, values, items)
    if config["quantizer"] in ("opq", "pq") and vectors.values.shape[1] < config["n_codes"]:
        raise UserError(
            f"n_codes={config['n_codes']}: the vectors of {path} have {vectors.values.shape[1]} dimensions; lower "
            "n_codes, or use quantizer=rq"
        )
    return vectors
