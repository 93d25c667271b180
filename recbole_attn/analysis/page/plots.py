"""The other figures: measures by head, erasures, noise, groups."""

from __future__ import annotations

import numpy as np

from recbole_attn.analysis.estimates import Estimate, estimate
from recbole_attn.analysis.faithfulness import CHOICES
from recbole_attn.analysis.findings import Findings, Inside
from recbole_attn.analysis.groups import KEYS, Groups
from recbole_attn.analysis.measures import NAMES
from recbole_attn.compare.report.figures import style_of


def from_zero(axes) -> None:
    """Let the values begin at 0 and leave room above the highest."""
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])


def legend(canvas, columns: int = 2) -> None:
    canvas.legend(loc="outside upper left", ncols=columns, fontsize=8, handlelength=2)


def by_head(canvas, found: Findings, measure: str) -> None:
    """One measure of the layers and heads of each first training: the first map hollow, the final one filled."""
    axes, place = canvas.subplots(), list(NAMES).index(measure)
    names = sorted({name for row in found.rows for name in _heads(row)}, key=lambda name: [*map(int, name.split("."))])
    stages = [(number, row, stage) for number, row in enumerate(found.rows) for stage in _stages(row)]
    for order, (number, row, stage) in enumerate(stages):
        values = getattr(row.measures, stage)[0, ..., place]
        look = {**style_of(number), "linestyle": "none", "fillstyle": "none" if stage == "before" else "full"}
        aside = (order - (len(stages) - 1) / 2) * 0.6 / len(stages)
        one = estimate(values.reshape(len(values), -1))
        label = row.name if stage == "after" else f"{row.name}, before"
        _bars(axes, np.array([names.index(name) for name in _heads(row)]) + aside, one, label, look)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("layer.head")
    axes.set_ylabel(measure)
    from_zero(axes)
    legend(canvas)


def _stages(row: Inside) -> tuple[str, ...]:
    return ("before", "after") if row.measures.changed else ("after",)


def _heads(row: Inside) -> list[str]:
    return [f"{layer + 1}.{head + 1}" for layer, head in np.ndindex(row.measures.after.shape[2:4])]


def _bars(axes, x: np.ndarray, one: Estimate, label: str, look: dict) -> None:
    reach = np.nan_to_num(np.stack([one.mean - one.low, one.high - one.mean]))
    axes.errorbar(x, one.mean, yerr=reach, label=label, linewidth=1.2, **look)


def by_erasure(canvas, found: Findings) -> None:
    """How far the rank moves without the most, the least attended and a random item."""
    axes, names = canvas.subplots(), []
    columns = []
    for row in found.rows:
        for stage, name in ((0, "first"), (1, "final")):
            if stage or row.measures.changed:
                names.append(f"{row.name}\n{name}" if row.measures.changed else row.name)
                columns.append(row.erasures.size[:, stage])
    one = estimate(np.stack(columns, 1))
    for number, choice in enumerate(CHOICES):
        part = Estimate(*(column[:, number] for column in one))
        look = {**style_of(number), "linestyle": "none"}
        _bars(
            axes,
            np.arange(len(names)) + (number - 1) * 0.15,
            part,
            f"{choice} attended" if number < 2 else choice,
            look,
        )
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_ylabel("|log₂ of the change of rank|")
    from_zero(axes)
    legend(canvas, columns=len(CHOICES))


def by_noise(canvas, found: Findings, kind: int) -> None:
    """The metric against the share of noise; bars are the standard deviation over trainings and draws."""
    axes = canvas.subplots()
    for number, row in enumerate(found.rows):
        curve, spread = row.robustness.curve[kind], row.robustness.spread[kind]
        shares = np.array(row.robustness.shares) * 100
        axes.errorbar(shares, curve, yerr=np.nan_to_num(spread), label=row.name, linewidth=1.2, **style_of(number))
    axes.set_xlabel("share of items, %")
    axes.set_ylabel(f"NDCG@{found.k}")
    from_zero(axes)
    legend(canvas)


def by_group(canvas, found: Findings, groups: Groups, names: list[str]) -> None:
    """The metric in groups of cases; bars are 95 % intervals over users."""
    axes = canvas.subplots()
    for number, row in enumerate(found.rows):
        x = np.arange(len(names)) + (number - (len(found.rows) - 1) / 2) * 0.1
        _bars(axes, x, groups.means(row.scores), row.name, style_of(number))
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel(KEYS[groups.key])
    axes.set_ylabel(f"NDCG@{found.k}")
    from_zero(axes)
    legend(canvas)
