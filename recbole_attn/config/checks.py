"""What is wrong with settings, found before any data is read: unknown names, bad values, contradictions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from recbole.config import Config
from recbole.evaluator import metric_types
from recbole.evaluator.base_metric import LossMetric
from recbole.evaluator.register import metrics_dict
from recbole.utils import ModelType

from recbole_attn.config.command_line import run_options
from recbole_attn.config.layers import Layer, Stack
from recbole_attn.config.names import models, models_with
from recbole_attn.config.schema import Schema
from recbole_attn.errors import UserError

NAMES = ("model", "dataset")


def require_model(name: str) -> None:
    """Accept the exact name of one of our models or of RecBole's.

    Raises:
        UserError: there is none of that name.
    """
    if name not in models():
        raise UserError(f"there is no model {name!r}{_nearest(name, models(), count=3)} (--help lists all)")


def _nearest(name: str, candidates: Iterable[str], count: int = 1) -> str:
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
    parent = key.rpartition(".")[0]
    known = [*schema.settings, *run_options()]
    hint = _nearest(key, [other for other in known if other.rpartition(".")[0] == parent]) or _nearest(key, known)
    return f"unknown setting {key!r} ({origin}){hint or ': --help says where the settings are documented'}"


def fit_negative_sampling_to_loss(stack: Stack, given: set[str]) -> None:
    """RecBole refuses cross-entropy with its default of one negative item, and BPR needs one.

    Raises:
        UserError: the user asks for the contrary.
    """
    key, one = "train_neg_sample_args", {"distribution": "uniform", "sample_num": 1}
    loss, value = stack.values.get("loss_type"), stack.values.get(key)
    drawn = value is not None and value.get("distribution", "uniform") is not None
    if loss not in ("CE", "BPR") or drawn == (loss == "BPR"):
        return
    if key in given:
        origin = next(origin for name, origin in stack.origins.items() if name.partition(".")[0] == key)
        remedy = "set it to ~" if loss == "CE" else f"set it to {one}"
        raise UserError(f"{key} = {value} ({origin}) contradicts loss_type = {loss}: {remedy}")
    stack.set(key, one if loss == "BPR" else None, f"loss_type = {loss}")


def check_protocol(stack: Stack) -> None:
    """Raise UserError where metrics, their cut-offs, the validation metric and the split do not fit together."""
    values = stack.values
    for metric in _as_list(values["metrics"]):
        if metric.lower() not in metric_types:
            names = [cls.__name__ for cls in metrics_dict.values()]
            raise UserError(f"metrics = {metric} ({stack.origins['metrics']}) is no metric{_nearest(metric, names)}")
    possible = _result_names(_as_list(values["metrics"]), _as_list(values["topk"]))
    if values["valid_metric"].lower() not in [name.lower() for name in possible]:
        raise UserError(
            f"valid_metric = {values['valid_metric']} ({stack.origins['valid_metric']}) is not measured: "
            f"it must be one of {', '.join(possible)} (metrics @ topk)"
        )
    split = values["eval_args"]["split"]
    if len(split) != 1:
        raise UserError(f"eval_args.split = {split} must name exactly one way of splitting: LS, RS or TS")


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _result_names(metrics: list[str], topk: list[int]) -> list[str]:
    """The names under which RecBole reports: NDCG@10, but AUC."""
    names = []
    for metric in metrics:
        cls = metrics_dict[metric.lower()]
        cut = not issubclass(cls, LossMetric) and metric.lower() != "gauc"
        names += [f"{metric}@{k}" for k in topk] if cut else [metric]
    return names


def check_built(config: Config, stack: Stack) -> None:
    if config["MODEL_INPUT_TYPE"] is None:
        loss = f"loss_type = {config['loss_type']!r} ({stack.origins.get('loss_type', 'not set')})"
        raise UserError(f"{loss} is no loss that {config['model']} trains with in RecBole: CE or BPR")
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and config["eval_args"]["order"] != "TO":
        origin = stack.origins.get("eval_args.order", "")
        raise UserError(f"eval_args.order = {config['eval_args']['order']} ({origin}): {config['model']} needs TO")
    if config["training"] == "sequence" and not getattr(config.model_class, "one_pass", False):
        origin = stack.origins.get("training", "")
        raise UserError(
            f"training = sequence ({origin}): {config['model']} cannot learn every position of a history in one pass; "
            "use training=prefix"
        )
    if config["training"] == "sequence" and config["length_buckets"] is not None:
        raise UserError(
            f"length_buckets = {config['length_buckets']} ({stack.origins.get('length_buckets', '')}) groups prefixes, "
            "and training = sequence has none; set it to ~"
        )
