"""Figures as SVG whose colours the page chooses, so that they read on light and on dark ground."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import accumulate
from typing import Any

import numpy as np

from recbole_attn.compare.outcome import Line, Outcome, Table
from recbole_attn.compare.report.blocks import Figure
from recbole_attn.compare.report.content import metric_name

# Colours that tell rows apart for every kind of colour vision: (light ground, dark ground).
SERIES = (
    *(("#0072b2", "#56b4e9"), ("#d55e00", "#ff9248"), ("#008060", "#2fc99b"), ("#a8428a", "#e48ac4")),
    *(("#7a6a00", "#e6d94c"), ("#5b5bd6", "#a5a5ff"), ("#8c4a2f", "#d9a58c"), ("#555555", "#bbbbbb")),
)
INK, FAINT = ("#1f2328", "#e6edf3"), ("#d0d7de", "#3d444d")
_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":")
_FILLS = ("full", "none", "left", "bottom")
_BINS = 4
_SIZE = (6.4, 3.8)


def available() -> bool:
    """Is matplotlib there?"""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def draw(outcome: Outcome) -> list[Figure]:
    """All figures of all tables; none without matplotlib."""
    if not available():
        return []
    return [figure for table in outcome.tables if table.finished for figure in _of(table)]


def _of(table: Table) -> list[Figure]:
    metric = table.protocol["valid_metric"].lower()
    name = metric_name(metric)
    kinds: list[tuple[str, str, str, Callable[[Any, Table, str], None]]] = [
        (
            "cost",
            f"{name} against cost",
            "Higher and further left is better; bars: standard deviation over seeds.",
            _cost,
        ),
        ("learning", f"Validation {name} while training", "One line for each seed.", _learning),
        (
            "learning-time",
            f"Validation {name} against the time it took",
            "Seconds of training and validation, one line for each seed.",
            _learning_in_time,
        ),
        (
            "history",
            f"{name} by length of history",
            "Users in groups of about equal size by earlier interactions.",
            _by_history,
        ),
        (
            "popularity",
            f"{name} by popularity of the target",
            "Targets in groups of about equal size by training interactions.",
            _by_popularity,
        ),
    ]
    return [_figure(table, file, title, note, metric, plot) for file, title, note, plot in kinds]


def _figure(table: Table, file: str, title: str, note: str, metric: str, plot) -> Figure:
    columns, height = _legend([line.name for line in table.finished])

    def on(canvas) -> None:
        plot(canvas.subplots(), table, metric)
        canvas.legend(loc="outside upper left", ncols=columns, fontsize=8, handlelength=2.5)

    name = f"{table.dataset}-{file}"
    size = (_SIZE[0], _SIZE[1] + height)
    return Figure(table.dataset, title, note, f"figures/{plain(name)}.svg", *render(on, name, title, size))


def _legend(names: Sequence[str]) -> tuple[int, float]:
    """Columns that fit beside each other, and the height that its lines but the first add, in inches."""
    widest = 0.58 + 0.058 * max(map(len, names))  # a handle with its gaps, and letters of 8 points
    columns = max(1, min(4, int(_SIZE[0] / widest)))
    return columns, 0.17 * (math.ceil(len(names) / columns) - 1)


def render(plot: Callable[[Any], None], name: str, title: str, size: tuple[float, float] = _SIZE) -> tuple[str, str]:
    """What `plot` draws on an empty matplotlib figure, as SVG: for a page, in its colours, and for a file.

    Args:
        name: another one for each figure of a page; the ids within the SVG come of it.
        title: what a screen reader says.
        size: inches.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    style: Any = {
        **{key: INK[0] for key in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")},
        **{
            "grid.color": FAINT[0],
            "axes.grid": True,
            "axes.axisbelow": True,
            "font.size": 9,
            "font.family": "sans-serif",
        },
        **{"axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none", "legend.frameon": False},
        "svg.hashsalt": name,
    }
    with rc_context(style):
        canvas = Canvas(figsize=size, layout="constrained")
        plot(canvas)
        text = io.StringIO()
        canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r' id="image\w+"', "", svg[svg.index("<svg") :])  # equal images have equal ids, which nothing needs
    inline = _with_page_colours(svg).replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return inline, svg.replace(">", '><rect width="100%" height="100%" fill="white"/>', 1)


def plain(name: str) -> str:
    """`name` as part of a file's name."""
    return re.sub(r"[^\w.-]", "_", name)


def _with_page_colours(svg: str) -> str:
    names = {light: f"var(--series-{number})" for number, (light, _) in enumerate(SERIES)}
    for colour, name in {**names, INK[0]: "var(--ink)", FAINT[0]: "var(--faint)"}.items():
        svg = svg.replace(colour, name)
    return re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg, count=2)


def style_of(number: int) -> dict[str, Any]:
    """Colour, marker and line of a row: no two rows share colour and line, or colour and marker where none is drawn."""
    again = number // len(SERIES)
    return {
        "color": SERIES[number % len(SERIES)][0],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _LINES[again % len(_LINES)],
        "fillstyle": _FILLS[again % len(_FILLS)],
        "markersize": 4.5,
    }


def _label(line: Line) -> str:
    """Its name as matplotlib writes it: `$` begins mathematics there, and a leading `_` hides."""
    return re.sub("^_", "\u200b_", line.name.replace("$", r"\$"))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Over seeds; of one seed the deviation is nan, for which no bar is drawn."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _cost(axes, table: Table, metric: str) -> None:
    for number, line in enumerate(table.finished):
        look = {**style_of(number), "linestyle": "none", "markersize": 7}
        sd = line.sd(metric)
        axes.errorbar(
            line.average("seconds"), line.mean(metric), yerr=None if sd != sd else sd, label=_label(line), **look
        )
    axes.set_xscale("log")
    axes.set_xlabel("time for one seed, seconds")
    axes.set_ylabel(metric_name(metric))


def _learning(axes, table: Table, metric: str) -> None:
    _curves(axes, table, metric, lambda history: [epoch["epoch"] + 1 for epoch in history])
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _learning_in_time(axes, table: Table, metric: str) -> None:
    def seconds(history):
        return accumulate(epoch["train_seconds"] + (epoch["valid_seconds"] or 0) for epoch in history)

    _curves(axes, table, metric, seconds)
    axes.set_xscale("log")
    axes.set_xlabel("seconds since training began")


def _curves(axes, table: Table, metric: str, places: Callable[[list[dict]], Iterable[float]]) -> None:
    """A line for each seed of each row. `places` gives where each epoch of a history stands."""
    for number, line in enumerate(table.finished):
        for order, result in enumerate(line.results):
            history = result["history"]
            measured = [
                (place, epoch["valid_score"])
                for place, epoch in zip(places(history), history)
                if epoch["valid_score"] is not None
            ]
            if not measured:
                continue
            look = {**style_of(number), "marker": _MARKERS[number % len(_MARKERS)] if len(measured) == 1 else None}
            axes.plot(*zip(*measured), label=_label(line) if order == 0 else None, linewidth=1.1, **look)
    axes.set_ylabel(f"validation {metric_name(metric)}")


def _by_history(axes, table: Table, metric: str) -> None:
    _by_group(axes, table, metric, "history")
    axes.set_xlabel("earlier interactions of the user")


def _by_popularity(axes, table: Table, metric: str) -> None:
    _by_group(axes, table, metric, "popularity")
    axes.set_xlabel("interactions of the target in training")


def _by_group(axes, table: Table, metric: str, column: str) -> None:
    edges = group_edges(getattr(table.finished[0].ranks[0], column))
    for number, line in enumerate(table.finished):
        axes.plot(group_means(line, metric, column, edges), label=_label(line), **style_of(number))
    axes.set_xticks(range(len(edges)), group_names(edges))
    axes.set_ylabel(metric_name(metric))


def group_edges(values: np.ndarray) -> list[tuple[int, int]]:
    """Up to four ranges, first and last value included, that hold about equally many of `values`."""
    cuts = np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS, method="lower"))
    lows = [int(values.min()), *(int(cut) + 1 for cut in cuts if cut < values.max())]
    return [(low, high) for low, high in zip(lows, [*(low - 1 for low in lows[1:]), int(values.max())])]


def group_names(edges: Sequence[tuple[int, int]]) -> list[str]:
    return [str(low) if low == high else f"{low}–{high}" for low, high in edges]


def group_means(line: Line, metric: str, column: str, edges: Sequence[tuple[int, int]]) -> list[float]:
    """Mean of a metric over all seeds in each range; nan for an empty one."""
    keys = np.concatenate([getattr(rank, column) for rank in line.ranks])
    values = np.concatenate([rank.metrics[metric] for rank in line.ranks])
    members = [(keys >= low) & (keys <= high) for low, high in edges]
    return [float(values[member].mean()) if member.any() else float("nan") for member in members]
