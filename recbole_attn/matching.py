"""Does a checkpoint belong to this model and to this data set?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from recbole_attn.config.names import read_values
from recbole_attn.errors import UserError
from recbole_attn.model import MODELS
from recbole_attn.registry import model_properties


def id_space(dataset) -> dict[str, dict[str, Any]]:
    """How many users and items a RecBole data set has, and a digest of their original ids in order.

    Two data sets of one size whose items are numbered differently give each other's models wrong items.
    """
    spaces = {}
    for field in (dataset.uid_field, dataset.iid_field):
        tokens = dataset.field2id_token[field]
        digest = hashlib.sha256("\n".join(map(str, tokens)).encode()).hexdigest()
        spaces[field] = {"count": len(tokens), "digest": digest}
    return spaces


def identity(dataset) -> dict[str, Any]:
    """What a checkpoint keeps of its data set: the id space, and the items' original ids by number, 0 for padding."""
    return {"id_space": id_space(dataset), "item_ids": list(map(str, dataset.field2id_token[dataset.iid_field]))}


def check_dataset(checkpoint: dict, dataset) -> None:
    """Compare users and items. A checkpoint written by RecBole itself has no record of them and passes.

    Raises:
        UserError: the checkpoint was trained on other users or items, or on the same in another order.
    """
    here = id_space(dataset)
    for field, space in checkpoint.get("id_space", here).items():
        other = here.get(field)
        if other == space:
            continue
        count = other["count"] if other else "no"
        how = "other ids, or the same in another order" if count == space["count"] else f"{count} here"
        raise UserError(
            f"the checkpoint is of another data set: it has {space['count']} {field} (padding included), {how}; "
            "use the data and the filters it was trained with"
        )


def check_names(checkpoint: dict, names: Mapping[str, str]) -> None:
    """Compare the names of model and data set with `names["model"]` and `names["dataset"]`.

    Raises:
        UserError: the checkpoint has another name.
    """
    for key, noun in (("model", "model"), ("dataset", "data set")):
        theirs, ours = checkpoint["config"][key], names[key]
        if theirs != ours:
            raise UserError(
                f"the checkpoint is of another {noun}: {theirs}, not {ours}; use --{key}={theirs} or another one"
            )


def check_model(checkpoint: dict, config, model: torch.nn.Module) -> None:
    """Compare the model's name, the data set's name, and every parameter's name and shape.

    Raises:
        UserError: names the first difference, and the settings that may explain it.
    """
    check_names(checkpoint, config)
    saved, present = (
        {name: tuple(value.shape) for name, value in states.items()}
        for states in (checkpoint["state_dict"], model.state_dict())
    )
    for name in [*present, *saved]:
        if saved.get(name) != present.get(name):
            raise UserError(
                f"the checkpoint does not fit the model: {name} has shape {saved.get(name, 'none')} in the checkpoint "
                f"and {present.get(name, 'none')} here; {_differing_settings(checkpoint['config'], config)}"
            )


def check_mechanism(checkpoint: dict, config) -> None:
    """Compare what a model of ours is made of, as its property file has it, beyond names and shapes of parameters.

    Numbers, such as dropout and weights of losses, may change while a model is trained.

    Raises:
        UserError: a word, a switch or a list that is another one.
    """
    if config["model"] not in MODELS:
        return
    theirs = checkpoint["config"].final_config_dict
    for name in read_values(model_properties(config["model"])):
        was, now = theirs.get(name, config[name]), config[name]
        if was != now and any(isinstance(value, (str, bool, list)) for value in (was, now)):
            raise UserError(f"{name} = {now}, but the model was trained with {was}; keep that, or train anew")


def _differing_settings(theirs, ours) -> str:
    """Settings of the model or the data whose values differ, written for a reader."""
    other = {name for kind in ("General", "Training", "Evaluation") for name in ours.parameters[kind]}
    names = [
        name
        for name, value in theirs.final_config_dict.items()
        if name not in other and isinstance(value, (bool, int, float, str, list)) and value != ours[name]
    ]
    if not names:
        return "the settings agree, so the data set or the program's version differs"
    differ = ", ".join(f"{name} ({theirs[name]} there, {ours[name]} here)" for name in names)
    return f"settings that differ: {differ}; take those of the checkpoint, or train anew"
