"""Whether the settings of the evaluation fit together: metrics, cut-offs, the validation metric and the split."""

from __future__ import annotations

from typing import Any

from recbole.evaluator import metric_types
from recbole.evaluator.base_metric import LossMetric
from recbole.evaluator.register import metric_information, metrics_dict

from recbole_attn.config.checks import nearest
from recbole_attn.config.layers import Stack
from recbole_attn.errors import UserError
from recbole_attn.streaming import need_all_scores


def check_evaluation(stack: Stack) -> None:
    """Raise UserError where metrics, their cut-offs, the validation metric and the split do not fit together."""
    values = stack.values
    metrics = _as_list(values["metrics"])
    for metric in metrics:
        _check_metric(metric, stack.origins["metrics"])
    if values.get("item_chunk") is not None:
        _check_chunks(metrics, stack)
    possible = _result_names(metrics, _as_list(values["topk"]))
    if values["valid_metric"].lower() not in [name.lower() for name in possible]:
        raise UserError(
            f"valid_metric = {values['valid_metric']} ({stack.origins['valid_metric']}) is not measured: "
            f"it must be one of {', '.join(possible)} (metrics @ topk)"
        )
    _check_split(values["eval_args"]["split"], stack.origins)


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _check_metric(metric: str, origin: str) -> None:
    if metric.lower() not in metric_types:
        names = [cls.__name__ for cls in metrics_dict.values()]
        raise UserError(f"metrics = {metric} ({origin}) is no metric{nearest(metric, names)}")
    # RecBole moves all that it collects to the CPU, and counts of the data, unlike labels, are no tensors.
    if any(need.startswith("data.") and need != "data.label" for need in metric_information[metric.lower()]):
        raise UserError(f"metrics = {metric} ({origin}): RecBole fails on this metric; leave it out")


def _check_chunks(metrics: list[str], stack: Stack) -> None:
    whole = need_all_scores(metrics)
    if whole:
        raise UserError(
            f"item_chunk = {stack.values['item_chunk']} ({stack.origins['item_chunk']}): {', '.join(whole)} cannot be "
            "told from the best items; leave such metrics out, or set item_chunk to ~ and hold users × items in memory"
        )


def _result_names(metrics: list[str], topk: list[int]) -> list[str]:
    """The names under which RecBole reports: NDCG@10, but AUC."""
    names = []
    for metric in metrics:
        cls = metrics_dict[metric.lower()]
        cut = not issubclass(cls, LossMetric) and metric.lower() != "gauc"
        names += [f"{metric}@{k}" for k in topk] if cut else [metric]
    return names


def _check_split(split: dict[str, Any], origins: dict[str, str]) -> None:
    if len(split) != 1:
        raise UserError(f"eval_args.split = {split} must name exactly one way of splitting: LS, RS or TS")
    way, ratios = next(iter(split.items()))
    if way in ("RS", "TS") and (len(ratios) != 3 or not ratios[0]):
        raise UserError(
            f"eval_args.split.{way} = {ratios} ({origins[f'eval_args.split.{way}']}) must be three ratios, those of "
            "training (above 0), validation and test, as in [0.8, 0.1, 0.1]"
        )
