"""Tuning: the same number of settings for each model that is tuned, chosen on validation alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recbole_attn.compare.plan import Plan, Row, refuse_other_rows
from recbole_attn.compare.store import Store
from recbole_attn.compare.trials import Trial, trials_of
from recbole_attn.config.layers import Layer
from recbole_attn.errors import UserError


class Candidate(NamedTuple):
    """One setting of a grid, with its trial on each data set (first seed only)."""

    point: dict[str, Any]
    layer: Layer
    trials: tuple[Trial, ...]


def grids(plan: Plan) -> dict[str, list[Candidate]]:
    """The candidates of each row that is tuned.

    Raises:
        UserError: a malformed grid, or grids of different sizes.
    """
    rows = {row.name: row for row in plan.rows}
    found = {name: _candidates(plan, rows[name], points(name, grid)) for name, grid in plan.tune.items()}
    sizes = {name: len(candidates) for name, candidates in found.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(f"tune: every model gets the same number of settings, but these differ: {listed}")
    return found


def points(name: str, grid: Any) -> list[dict[str, Any]]:
    """The settings of a grid: all combinations of {setting: [values]}, or the listed ones of [{setting: value}].

    Raises:
        UserError: it is neither, or a setting stands in it twice.
    """
    if isinstance(grid, list) and grid and all(isinstance(point, dict) for point in grid):
        found = grid
    elif isinstance(grid, dict) and grid and all(isinstance(values, list) and values for values in grid.values()):
        found = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    else:
        raise UserError(f"tune.{name} = {grid!r}: write {{setting: [value, value]}}, or a list of {{setting: value}}")
    for number, point in enumerate(found):
        refuse_other_rows(Layer(f"tune.{name}", point))
        if point in found[:number]:
            raise UserError(f"tune.{name}: {point} stands there twice, and would count as two settings; write it once")
    return found


def _candidates(plan: Plan, row: Row, found: Sequence[dict[str, Any]]) -> list[Candidate]:
    candidates = []
    for point in found:
        layer = Layer(f"tune.{row.name}", point)
        chosen = dict.fromkeys(plan.datasets, layer)
        candidates.append(Candidate(point, layer, tuple(trials_of(plan, row, chosen, seeds=1))))
    return candidates


def choose(store: Store, candidates: Sequence[Candidate]) -> dict[str, Layer]:
    """For each data set the layer of the candidate that is best on validation.

    None where no candidate finished, or one still waits.
    """
    best: dict[str, tuple[float, Layer]] = {}
    waiting = set()
    for candidate in candidates:
        for trial in candidate.trials:
            if store.waits(trial):
                waiting.add(trial.dataset)
            score = validation(store, trial)
            if score is not None and (trial.dataset not in best or score > best[trial.dataset][0]):
                best[trial.dataset] = score, candidate.layer
    return {dataset: layer for dataset, (_, layer) in best.items() if dataset not in waiting}


def validation(store: Store, trial: Trial) -> float | None:
    """The validation metric of a finished trial, signed so that more is better."""
    result: Mapping[str, Any] | None = store.result(trial)
    if not result or not result["valid"]:
        return None
    score = result["valid"][trial.protocol["valid_metric"].lower()]
    return score if trial.config.get("valid_metric_bigger", True) else -score
