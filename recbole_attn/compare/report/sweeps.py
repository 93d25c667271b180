"""The figure of rows that move one setting of the baseline: its values against the metric, a panel for each setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recbole_attn.compare.fingerprint import WITHOUT_EFFECT
from recbole_attn.compare.outcome import Line, Outcome, Table
from recbole_attn.compare.report.blocks import Figure
from recbole_attn.compare.report.content import metric_name
from recbole_attn.compare.report.figures import INK, available, mean_and_sd, plain, render, style_of

_FEWEST = 3  # values, the baseline's included: two are a difference, which the tables show
_PANEL = (3.3, 2.9)  # inches
_COLUMNS = 3
_REM = 6.5  # of an inch

Points = list[tuple[float, Line]]


def draw_sweeps(outcome: Outcome) -> list[Figure]:
    """A figure for each table that has a sweep; none without matplotlib."""
    if not available():
        return []
    found = [(table, sweeps(table)) for table in outcome.tables]
    return [_figure(table, settings) for table, settings in found if settings]


def sweeps(table: Table) -> dict[str, Points]:
    """Setting -> its values, ascending, with their rows: those that differ from the baseline in this number alone."""
    base = next((line for line in table.finished if line.name == table.baseline), None)
    if base is None:
        return {}
    own = _config(base)
    found: dict[str, Points] = {}
    for line in table.finished:
        setting = _moved(own, _config(line))
        if setting:
            found.setdefault(setting, [(own[setting], base)]).append((_config(line)[setting], line))
    return {
        setting: sorted(points, key=lambda point: point[0])
        for setting, points in found.items()
        if len({value for value, _ in points}) >= _FEWEST
    }


def _config(line: Line) -> dict[str, Any]:
    beside = (WITHOUT_EFFECT | {"seed"}) - {"model"}
    return {key: value for key, value in line.results[0]["config"].items() if key not in beside}


def _moved(base: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The only setting that differs, where it is a number in both."""
    differing = [key for key in {**base, **other} if base.get(key) != other.get(key)]
    if len(differing) != 1 or not all(_is_number(config.get(differing[0])) for config in (base, other)):
        return None
    return differing[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _figure(table: Table, settings: dict[str, Points]) -> Figure:
    metric = table.protocol["valid_metric"].lower()
    columns = min(_COLUMNS, len(settings))
    rows = math.ceil(len(settings) / columns)
    size = (max(2, columns) * _PANEL[0], rows * _PANEL[1] + 0.3)

    def on(canvas) -> None:
        panels = canvas.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for axes, (setting, points) in zip(panels, settings.items()):
            _panel(axes, table, metric, setting, points)
        for axes in panels[len(settings) :]:
            axes.remove()
        for axes in panels[: len(settings) : columns]:
            axes.set_ylabel(metric_name(metric))
        canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, fontsize=8)

    title = f"{metric_name(metric)} against {', '.join(settings)}"
    note = f"One setting moved at a time, all else as in {table.baseline}. Bars: standard deviation over seeds."
    name = f"{table.dataset}-sweeps"
    width = size[0] * _REM if columns > 2 else 0.0
    return Figure(table.dataset, title, note, f"figures/{plain(name)}.svg", *render(on, name, title, size), width)


def _panel(axes, table: Table, metric: str, setting: str, points: Points) -> None:
    """The values stand equally far apart: they are often powers, and 0 is among them."""
    base = next(place for place, (_, line) in enumerate(points) if line.name == table.baseline)
    axes.axvline(base, color=INK[0], linewidth=0.8, linestyle=":", label=f"value of {table.baseline}")
    for number, (part, scores) in enumerate({"test": _test, "validation": _validation}.items()):
        found = [mean_and_sd(scores(line, metric)) for _, line in points]
        means, sds = zip(*found)
        axes.errorbar(range(len(points)), means, yerr=sds, label=part, **style_of(number))
    axes.set_xticks(range(len(points)), [f"{value:g}" for value, _ in points])
    axes.set_xlabel(setting)


def _test(line: Line, metric: str) -> list[float]:
    return list(line.scores[metric])


def _validation(line: Line, metric: str) -> list[float]:
    return [result["valid"].get(metric, math.nan) for result in line.results]
