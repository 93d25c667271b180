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


def item_file(config) -> Path:
    """Where the data set's .item file is, or would be."""
    return Path(config["data_path"]) / f"{config['dataset']}.item"


def _columns(config, items: list[str]) -> list[Column]:
    """The chosen columns of the data set's .item file; none where there is no file."""
    path = item_file(config)
    if not path.is_file():
        return []
    separator, encoding = config["field_separator"], config["encoding"] or "utf-8"
    return read_item_columns(path, config["ITEM_ID_FIELD"], items, config["item_columns"], separator, encoding)


def _no_text(config, source: str | None) -> None:
    """Say that there is no text; refuse where it was asked for."""
    file = item_file(config)
    if file.is_file():
        what, way_out = f"no usable item column in {file}", "name other item_columns"
    else:
        what, way_out = f"there is no {file}", "put it there"
    if source is not None or config["item_columns"] is not None:
        setting = "item_columns" if source is None else "item_vectors"
        raise UserError(f"{setting}={config[setting]}: {what}; {way_out}, or use item_vectors=interactions")
    getLogger().info(f"item_vectors = interactions: {what}")


def _from_file(config, path: Path, items: list[str]) -> ItemVectors:
    if path.suffix in (".npy", ".npz"):
        ids, values = read_vectors(path)
    else:
        encoding = config["encoding"] or "utf-8"
        separators = config["field_separator"], config["seq_separator"]
        try:
            ids, values = read_vector_column(path, config["ITEM_ID_FIELD"], *separators, encoding)
        except UserError as error:
            raise UserError(
                f"item_vectors={path}: is no atomic file with vectors ({error}); mend it, or give an .npz with ids and "
                "vectors, or an .npy with one id a line in the .ids file beside it"
            ) from error
    vectors = match(path, ids, values, items)
    if config["quantizer"] in ("opq", "pq") and vectors.values.shape[1] < config["n_codes"]:
        raise UserError(
            f"n_codes={config['n_codes']}: the vectors of {path} have {vectors.values.shape[1]} dimensions; lower "
            "n_codes, or use quantizer=rq"
        )
    return vectors
