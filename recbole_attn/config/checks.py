"""What is wrong with settings, found before any data is read: unknown names, bad values, contradictions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from recbole.config import Config
from recbole.utils import ModelType

from recbole_attn.config.command_line import run_options
from recbole_attn.config.layers import Layer, Stack
from recbole_attn.config.names import models, models_with
from recbole_attn.config.schema import Schema
from recbole_attn.errors import UserError

NAMES = ("model", "dataset")
_WITHOUT_NEGATIVES = ("CE", "SSM", "gBCE")  # losses for which RecBole draws none
_ONE = ("uniform", 1, False)  # distribution, number and choice of the negative items in whole sequences


def require_model(name: str) -> None:
    """Accept the exact name of one of our models or of RecBole's.

    Raises:
        UserError: there is none of that name.
    """
    if name not in models():
        raise UserError(f"there is no model {name!r}{nearest(name, models(), count=3)} (--help lists all)")


def nearest(name: str, candidates: Iterable[str], count: int = 1) -> str:
    """A question with the candidates most like `name`, or nothing."""
    folded = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), folded, n=count, cutoff=0.6)
    return f": did you mean {' or '.join(repr(folded[match]) for match in close)}?" if close else ""


def checked(layer: Layer, schema: Schema, model: str) -> dict[str, Any]:
    """The layer's values, each as its declared type.

    Raises:
        UserError: an unknown setting, or a value that is not allowed.
    """
    values = {key: value for key, value in layer.values.items() if key not in NAMES}
    return {key: _checked(str(key), value, layer.origin, schema, model) for key, value in values.items()}


def _checked(key: str, value: Any, origin: str, schema: Schema, model: str) -> Any:
    setting = schema.get(key)
    parent = key.rpartition(".")[0]
    if setting is None and (not parent or schema.closed(parent)):
        raise UserError(_unknown(key, origin, schema, model))
    value = value if setting is None else setting.check(value, origin)
    if isinstance(value, dict) and schema.closed(key):
        return {name: _checked(f"{key}.{name}", nested, origin, schema, model) for name, nested in value.items()}
    return value


def _unknown(key: str, origin: str, schema: Schema, model: str) -> str:
    others = models_with(key)
    if others:
        shown = ", ".join(others[:5]) + (" and others" if len(others) > 5 else "")
        return f"setting {key!r} ({origin}) is not one of {model}; it belongs to {shown}"
    if key in run_options():
        return f"{key} ({origin}) is an option of certain commands, not a setting of a run: see --help"
    parent = key.rpartition(".")[0]
    known = [*schema.settings, *run_options()]
    hint = nearest(key, [other for other in known if other.rpartition(".")[0] == parent]) or nearest(key, known)
    return f"unknown setting {key!r} ({origin}){hint or ': --help says where the settings are documented'}"


def fit_negative_sampling_to_loss(stack: Stack, given: set[str]) -> None:
    """RecBole refuses cross-entropy with its default of one negative item, BPR needs one, other losses draw their own.

    Raises:
        UserError: the user asks for the contrary.
    """
    key, one = "train_neg_sample_args", {"distribution": "uniform", "sample_num": 1}
    loss, value = stack.values.get("loss_type"), stack.values.get(key)
    drawn = value is not None and value.get("distribution", "uniform") is not None
    if loss not in (*_WITHOUT_NEGATIVES, "BPR") or drawn == (loss == "BPR"):
        return
    if key in given:
        origin = next(origin for name, origin in stack.origins.items() if name.partition(".")[0] == key)
        remedy = "set it to ~" if loss != "BPR" else f"set it to {one}"
        raise UserError(f"{key} = {value} ({origin}) contradicts loss_type = {loss}: {remedy}")
    stack.set(key, one if loss == "BPR" else None, f"loss_type = {loss}")


def check_columns(stack: Stack) -> None:
    """Raise UserError where a model needs columns of items that `load_col` leaves out."""
    key, loaded = "selected_features", stack.values.get("load_col")
    columns = {"*"} if loaded is None else {column for part in loaded.values() for column in part or ()}
    missing = [name for name in stack.values.get(key) or () if name not in columns]
    if missing and "*" not in columns:
        item = ",".join([stack.values["ITEM_ID_FIELD"], *missing])
        raise UserError(
            f"{key} = {stack.values[key]} ({stack.origins[key]}): load_col leaves out {', '.join(missing)}; "
            f"say --load_col.item=[{item}], or name other features of the items"
        )


def check_built(config: Config, stack: Stack) -> None:
    """Raise UserError where the settings do not suit the model."""
    known = getattr(config.model_class, "losses", ())  # ours; RecBole knows CE and BPR alone
    if config["MODEL_INPUT_TYPE"] is None and config["loss_type"] not in known:
        loss = f"loss_type = {config['loss_type']!r} ({stack.origins.get('loss_type', 'not set')})"
        raise UserError(f"{loss} is no loss that {config['model']} trains with in RecBole: CE or BPR")
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and config["eval_args"]["order"] != "TO":
        origin = stack.origins.get("eval_args.order", "")
        raise UserError(f"eval_args.order = {config['eval_args']['order']} ({origin}): {config['model']} needs TO")
    if config["clip_grad_norm"] and "max_norm" not in config["clip_grad_norm"]:
        raise UserError(f"clip_grad_norm = {config['clip_grad_norm']} has no max_norm: write {{max_norm: 5}}, or ~")
    threshold = config["threshold"]
    if threshold is not None and [type(value) in (int, float) for value in threshold.values()] != [True]:
        raise UserError(f"threshold = {threshold}: must be one column and a number, as in {{rating: 4}}")
    if config["log_wandb"] and find_spec("wandb") is None:
        raise UserError("log_wandb = True: wandb is not installed; pip install wandb, or leave log_wandb at False")
    if config["training"] == "sequence":
        _check_one_pass(config, stack)


def _check_one_pass(config: Config, stack: Stack) -> None:
    if not getattr(config.model_class, "one_pass", False):
        origin = stack.origins.get("training", "")
        raise UserError(
            f"training = sequence ({origin}): {config['model']} cannot learn every position of a history in one pass; "
            "use training=prefix"
        )
    if config["benchmark_filename"] is not None:
        raise UserError(
            f"benchmark_filename = {config['benchmark_filename']} brings rows of its own, and training = sequence "
            f"({stack.origins.get('training', '')}) makes them of whole histories; use training=prefix"
        )
    if config["transform"] is not None:
        raise UserError(
            f"transform = {config['transform']} ({stack.origins.get('transform', '')}) changes rows of prefixes, and "
            "training = sequence has none; set it to ~, or use training=prefix"
        )
    drawn = config["train_neg_sample_args"]
    if drawn["distribution"] != "none" and (drawn["distribution"], drawn["sample_num"], drawn["dynamic"]) != _ONE:
        raise UserError(
            f"train_neg_sample_args = {stack.values['train_neg_sample_args']}: training = sequence draws one uniform "
            "negative item for each target; set distribution: uniform, sample_num: 1 and dynamic: False, "
            "or use training=prefix"
        )
