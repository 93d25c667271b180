"""The figures of the page, each with what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from recbole_attn.analysis.findings import Findings, Inside
from recbole_attn.analysis.groups import KEYS, Groups, group
from recbole_attn.analysis.maps import Maps
from recbole_attn.analysis.page import heatmaps, plots, sentences
from recbole_attn.analysis.page.scales import SHOWN, Scale, scales
from recbole_attn.analysis.page.tables import measured
from recbole_attn.compare.report.blocks import Figure, Section, Text
from recbole_attn.compare.report.figures import group_names, plain, render

_DAY = 86_400
_REM = 6.5  # of an inch of a figure that keeps its width


def figure(found: Findings, name: str, title: str, note: str, plot: Callable[[Any], None], **options: Any) -> Figure:
    width = options.pop("width", 0.0)
    inline, standalone = render(plot, f"{found.dataset}-{name}", title, **options)
    return Figure(found.dataset, title, note, f"figures/{plain(name)}.svg", inline, standalone, width)


def averages(found: Findings) -> Iterator[Section]:
    """The average maps of each row."""
    for row, colours in zip(found.rows, scales([row.average for row in found.rows])):
        figures = []
        for depth in range(len(row.average.layers)):
            note = sentences.of_average(found, row, depth)
            figures.append(map_figure(found, row, row.average, depth, f"{row.name}-average", note, colours[depth]))
        yield Section(f"Average maps of {row.name}", figures)


def map_figure(
    found: Findings, row: Inside, maps: Maps, depth: int, name: str, note: str, colours: dict[str, Scale]
) -> Figure:
    titled = maps.users is None
    size = heatmaps.size(maps.layers[depth], titled)
    return figure(
        found,
        f"{name}-layer-{depth + 1}",
        f"{row.name}, layer {depth + 1}",
        note,
        partial(heatmaps.draw_layer, maps=maps, depth=depth, titled=titled, scales=colours),
        size=size,
        width=size[0] * _REM,
    )


def chosen(found: Findings) -> Iterator[Section]:
    """The maps of single users, the newest items of each history."""
    for place, case in enumerate(found.chosen):
        user = found.cases.user[case]
        figures = []
        for row, colours in zip(found.rows, scales([row.users[place] for row in found.rows])):
            maps = row.users[place]
            for depth in range(len(maps.layers)):
                note = sentences.of_user(maps, depth, found.targets[place], SHOWN)
                figures.append(map_figure(found, row, maps, depth, f"{row.name}-user-{user}", note, colours[depth]))
        yield Section(f"User {user}", figures)


def measures(found: Findings) -> Iterator[Figure]:
    for name in measured(found):
        plot = partial(plots.by_head, found=found, measure=name)
        yield figure(found, f"measure-{name}", name.capitalize(), sentences.of_measure(found, name), plot)


def erasing(found: Findings) -> list[Figure | Text]:
    """What erasing items does, and what that says of the weights."""
    plot, size = partial(plots.by_erasure, found=found), (9.0, 3.8)
    note = "How far the target's rank moves, up or down, when one item of the history is erased; bars: 95 % interval."
    drawn = figure(found, "erasures", "An item erased", note, plot, size=size, width=size[0] * _REM)
    return [
        drawn,
        Text("What that says of the weights; × is the factor by which the rank moves.", sentences.of_erasing(found)),
    ]


def noise(found: Findings) -> Iterator[Figure]:
    for kind, name in enumerate(found.rows[0].robustness.kinds):
        plot = partial(plots.by_noise, found=found, kind=kind)
        yield figure(found, f"noise-{name}", name.capitalize(), sentences.of_noise(found, kind), plot)


def groups(found: Findings) -> Iterator[Figure]:
    for key in KEYS:
        groups = group(found.cases, key)
        if groups is not None:
            names = _group_names(groups)
            plot = partial(plots.by_group, found=found, groups=groups, names=names)
            title = f"By {KEYS[key]}"
            yield figure(found, f"by-{key}", title, sentences.of_groups(found, groups, names), plot)


def _group_names(groups: Groups) -> list[str]:
    if groups.key != "gap":
        return group_names(groups.edges)
    highs = [_duration(high) for _, high in groups.edges]
    names = [high if high == "0 s" else f"≤ {high}" for high in highs]
    return [*names[:-1], f"> {highs[-2]}"] if len(highs) > 1 else names


def _duration(seconds: int) -> str:
    for unit, size in (("d", _DAY), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds} s"
