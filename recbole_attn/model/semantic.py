"""Semantic ids for a model: reads the settings and the item data, and keeps what was made for the checkpoint.

The codes are kept in the config that the model is built from. Checkpoints hold this config, so whoever builds the
model from one, RecBole's `load_data_and_model` too, has the codes at hand and needs neither quantiser nor item data.
"""

from __future__ import annotations

import hashlib
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recbole_attn.data.pairs import training_pairs
from recbole_attn.errors import UserError
from recbole_attn.model.item_vectors import item_file, make_vectors
from recbole_attn.model.named_files import named_files
from recbole_attn.model.semantic_settings import SETTINGS, SOURCES, check_settings, require_packages
from recbole_attn.semantic_ids import SemanticIds, code_usage, collision_rate, compact, summary, with_padding
from recbole_attn.semantic_ids.quantizers import (
    Sizes,
    fit_sizes,
    quantize,
    random_codes,
    reconstruction_error,
)
from recbole_attn.semantic_ids.table import ids_of, read_table, write_table
from recbole_attn.semantic_ids.vectors import one_thread, prepare

_KEPT = "made_semantic_ids"


class Kept(NamedTuple):
    """Semantic ids in a config, and what they are of: items, settings and seed, as a digest."""

    digest: str
    ids: SemanticIds

    def __repr__(self) -> str:
        return f"{tuple(self.ids.codes.shape)} codes"  # configs are logged


def semantic_ids_for(config, dataset) -> SemanticIds:
    """The semantic ids of a data set's items, padding first; see properties/model/RPG.yaml for the settings.

    Args:
        dataset: the training part of a data set; or a `Catalogue`, which gets the ids that the config keeps, or
            random ones of the right size where it keeps none (a model built to try its settings).

    Raises:
        UserError: a setting outside its range, files or packages that are missing, data that admit no such ids.
    """
    check_settings(config)
    tokens = getattr(dataset, "field2id_token", None)
    item_ids = dataset_ids(config, dataset) if tokens is not None else list(getattr(dataset, "item_ids", ()))
    digest = _digest(config, item_ids)
    if _KEPT in config and config[_KEPT].digest == digest:
        kept = config[_KEPT].ids
        return kept._replace(codes=kept.codes.long())
    require_packages(config)
    if tokens is None:
        return _placeholder(config, dataset.num(config["ITEM_ID_FIELD"]))
    ids = _read_or_make(config, dataset, item_ids)
    config[_KEPT] = Kept(digest, ids._replace(codes=compact(ids.codes, ids.n_values)))
    getLogger().info(summary(ids))
    return ids


def check_item_data(config, dataset) -> None:
    """Read what semantic ids would be made of, or a table that holds them, and make none.

    Args:
        dataset: the training part of a data set.

    Raises:
        UserError: files or data that admit no ids for these items.
    """
    item_ids = dataset_ids(config, dataset)
    table = Path(config["semantic_ids"] or "")
    if table.is_file():
        _read(table, _made_of(config, dataset, item_ids), item_ids)
    elif config["quantizer"] != "random":
        with one_thread():
            _vectors(config, dataset, item_ids[1:])


def keep_semantic_ids(source, target) -> None:
    """Hand the ids that one config keeps to another, which uses them if items and settings are the same."""
    if _KEPT in source:
        target[_KEPT] = source[_KEPT]


def dataset_ids(config, dataset) -> list[str]:
    """The original ids of a RecBole data set's items by number, padding first."""
    return list(map(str, dataset.field2id_token[config["ITEM_ID_FIELD"]]))


def training_digest(dataset, item_ids: list[str]) -> str:
    """Of the training part: each target with the item before it, in original ids, whatever the order of the rows."""
    pairs = torch.stack(training_pairs(dataset, 1)).numpy()
    used, places = np.unique(pairs, return_inverse=True)
    names = np.asarray(item_ids)[used]
    order = names.argsort()
    rank = order.argsort()[places.reshape(pairs.shape)]
    digest = hashlib.sha256("\n".join(names[order]).encode())
    digest.update(np.sort(rank[0] * len(names) + rank[1]).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def _read_or_make(config, dataset, item_ids: list[str]) -> SemanticIds:
    if not config["semantic_ids"]:
        with one_thread():
            return _make(config, dataset, item_ids[1:])
    path = Path(config["semantic_ids"])
    made = _made_of(config, dataset, item_ids)
    if path.exists():
        return _read(path, made, item_ids)
    with one_thread():
        ids = _make(config, dataset, item_ids[1:])
    write_table(path, ids, item_ids, made)
    getLogger().info(f"semantic ids: written to {path}")
    return ids


def _made_of(config, dataset, item_ids: list[str]) -> dict[str, Any]:
    """What a table says its ids were made of."""
    return {
        "dataset": config["dataset"],
        "split": config["eval_args"]["split"],
        "training": training_digest(dataset, item_ids),
        "item_data": _item_data(config),
        **_absolute({name: config[name] for name in SETTINGS}),
    }


def _read(path: Path, made: dict[str, Any], item_ids: list[str]) -> SemanticIds:
    """The ids of a table. One of this program's is refused where it was made by other settings."""
    table = read_table(path)
    for name, theirs in _absolute(table.about.get("made", {})).items():
        if name == "item_data" and made[name] is None:
            continue  # codes may outlive what they were made of
        if theirs != made.get(name):
            raise UserError(
                f"semantic_ids={path}: was made with {name}={theirs}, not {made.get(name)}; name another file, or "
                "delete its first line to use it all the same"
            )
    ids = ids_of(path, table, item_ids)
    codes = ids.codes[1:].numpy()
    facts = _facts(codes, ids.n_values)
    getLogger().info(f"semantic ids: read from {path}, which decides on n_codes and code_bits")
    return ids._replace(report={"quantizer": f"from {path}", **ids.report, **facts})


def _item_data(config) -> str | None:
    """Of the file that vectors come from; None where there is none."""
    source = config["item_vectors"]
    if source == "interactions" or config["quantizer"] == "random":
        return None
    path = item_file(config) if source in SOURCES else Path(source)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None


def _absolute(made: dict[str, Any]) -> dict[str, Any]:
    """With absolute paths of files: a comparison's trials read the same one from another folder."""
    return {**made, **{name: str(path) for name, path in named_files(made).items()}}


def _make(config, dataset, items: list[str]) -> SemanticIds:
    quantizer, seed = config["quantizer"], config["seed"]
    report: dict[str, Any] = {"item_vectors": "none", "quantizer": quantizer, "seed": seed, "items": len(items)}
    if quantizer == "random":
        sizes = Sizes(config["n_codes"], config["code_bits"], 0)
        found = random_codes(len(items), sizes, seed)
    else:
        source, ready, fitted, sizes = _vectors(config, dataset, items)
        found = quantize(ready, fitted, quantizer, sizes, seed)
        report.update(item_vectors=source, fitted_items=int(fitted.sum()), dimensions=sizes.dimensions)
        if found.reconstruction is not None:
            report["reconstruction_error"] = reconstruction_error(ready, found.reconstruction)
    n_values = 1 << sizes.code_bits
    report |= {"code_bits": sizes.code_bits, **_facts(found.codes, n_values)}
    return SemanticIds(with_padding(found.codes), n_values, report)


def _vectors(config, dataset, items: list[str]) -> tuple[str, np.ndarray, np.ndarray, Sizes]:
    """Where vectors are from, the vectors (n, d), the items (n,) bool that a quantiser learns from, and its sizes."""
    source, vectors, trained = make_vectors(config, dataset, items)
    ready = prepare(vectors, trained, config["vector_size"], config["whiten"], config["seed"])
    fitted = trained & vectors.known
    asked = config["quantizer"], config["n_codes"], config["code_bits"]
    return source, ready, fitted, fit_sizes(*asked, ready.shape[1], int(fitted.sum()))


def _facts(codes: np.ndarray, n_values: int) -> dict[str, Any]:
    """What can be said of codes (n, K) wherever they are from."""
    return {
        "n_codes": codes.shape[1],
        "n_values": n_values,
        "collision_rate": collision_rate(codes),
        "code_usage": code_usage(codes, n_values),
    }


def _placeholder(config, n_items: int) -> SemanticIds:
    sizes = Sizes(config["n_codes"], config["code_bits"], 0)
    return SemanticIds(with_padding(random_codes(n_items - 1, sizes, 0).codes), 1 << sizes.code_bits, {})


def _digest(config, item_ids: list[str]) -> str:
    settings = [config[name] for name in (*SETTINGS, "semantic_ids", "seed")]
    return hashlib.sha256("\n".join([repr(settings), *item_ids]).encode()).hexdigest()
