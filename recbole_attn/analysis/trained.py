"""Checkpoints to look into: several of one model that differ in their seed make one row."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from recbole_attn.analysis.comparable import require_one_protocol
from recbole_attn.analysis.inside import attentive
from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.errors import UserError
from recbole_attn.model import MODELS
from recbole_attn.recommender import restore

# Settings that say where, when and how often a model was trained, not which model it is.
_APART = {"seed", "data_path", "checkpoint_dir", "device", "gpu_id", "use_gpu", "show_progress", "state", "nproc"}


class Trained(NamedTuple):
    """A checkpoint that was read."""

    path: str
    model: nn.Module
    config: Any
    state: dict[str, Any]


class Row(NamedTuple):
    """One model with one configuration, as often as it was trained."""

    name: str
    seeds: list[Trained]

    @property
    def first(self) -> Trained:
        """The one whose maps are shown: heads of two trainings have no common order, so maps cannot be averaged."""
        return self.seeds[0]


def read_rows(paths: Sequence[str], data_path: str | None = None) -> list[Row]:
    """The checkpoints at `paths`, grouped by model and settings, in the order in which they are named.

    Args:
        data_path: folder that holds the data set's folder; that of each training where it is None.

    Raises:
        UserError: no such checkpoint; a model without attention; checkpoints that cannot be compared, or two of one
            training.
    """
    found = [read(path, data_path) for path in paths]
    _require_different_trainings(found)
    require_one_protocol(found)
    groups: dict[str, list[Trained]] = {}
    for trained in found:
        groups.setdefault(repr((trained.config["model"], sorted(_settings(trained).items()))), []).append(trained)
    rows = [sorted(group, key=lambda trained: trained.config["seed"]) for group in groups.values()]
    return [Row(name, group) for name, group in zip(_names(rows), rows)]


def _require_different_trainings(found: Sequence[Trained]) -> None:
    """The best and the last state of one run are no two trainings, and would make its spread look small."""
    first: dict[str, str] = {}
    for trained in found:
        run = trained.state.get("run_id", trained.path)  # RecBole's own checkpoints have none
        if first.setdefault(run, trained.path) != trained.path:
            raise UserError(f"checkpoint {trained.path}: is of the same training as {first[run]}; name one of the two")


def read(path: str, data_path: str | None = None) -> Trained:
    """One checkpoint, on the GPU where there is one.

    Raises:
        UserError: no checkpoint, or one of a model without attention to look into.
    """
    state = load_checkpoint(path)
    config = state["config"]
    if config["model"] not in (*MODELS, "SASRec"):
        raise _nothing_inside(path, config["model"])
    config["device"] = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if data_path is not None:
        config["data_path"] = os.path.join(data_path, config["dataset"])
    model = restore(state)[1]
    if not attentive(model):
        raise _nothing_inside(path, config["model"])
    return Trained(str(path), model, config, state)


def _nothing_inside(path: str, model: str) -> UserError:
    known = ", ".join(MODELS)
    return UserError(
        f"checkpoint {path}: {model} has no attention to look into; give one of {known}, or RecBole's SASRec"
    )


def expand(text: str, option: str) -> list[str]:
    """The files that a list like "a/best.pth,b/*/best.pth" names.

    Raises:
        UserError: a pattern without a file.
    """
    paths: list[str] = []
    for part in text.split(","):
        part = part.strip()
        matches = sorted(glob.glob(part)) if glob.has_magic(part) else [part]
        if not matches or not part:
            raise UserError(f"{option} = {text}: no file matches {part!r}; give paths of checkpoints, parted by commas")
        paths += map(os.path.abspath, matches)
    return list(dict.fromkeys(paths))


def _settings(trained: Trained) -> dict[str, Any]:
    values = trained.config.final_config_dict
    plain = (str, int, float, bool, list, dict, type(None))
    return {key: value for key, value in values.items() if key not in _APART and isinstance(value, plain)}


def _names(rows: Sequence[Sequence[Trained]]) -> list[str]:
    """The model's name, with the settings in which rows of one model differ."""
    names = []
    for group in rows:
        model = group[0].config["model"]
        alike = [_settings(other[0]) for other in rows if other[0].config["model"] == model]
        own = _settings(group[0])
        keys = list(dict.fromkeys(key for other in alike for key in other))
        differing = [key for key in keys if any(other.get(key) != own.get(key) for other in alike)]
        names.append(" ".join([model, *(_said(key, own.get(key)) for key in differing)]))
    return names


def _said(key: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{key}={value}"
