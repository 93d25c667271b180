"""The figures of the page, each with what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from recbole_attn.analysis.findings import Findings, Inside
from recbole_attn.analysis.groups import KEYS
from recbole_attn.analysis.maps import Maps
from recbole_attn.analysis.page import grouped, heatmaps, plots, sentences
from recbole_attn.analysis.page.scales import SHOWN, Scale, scales
from recbole_attn.analysis.page.tables import measured
from recbole_attn.compare.report.blocks import Figure, Section, Text
from recbole_attn.compare.report.figures import plain, render

_REM = 6.5  # of an inch of a map
_SIZE, _WIDTH = (4.8, 3.6), 26.0  # inches of a plot and its rem: two fill the page, and on a phone one scrolls


def figure(
    found: Findings,
    name: str,
    title: str,
    note: str,
    plot: Callable[[Any], None],
    size: tuple[float, float] = _SIZE,
    width: float = _WIDTH,
) -> Figure:
    """A figure that keeps its width, in rem, so that its letters do not shrink with the page."""
    inline, standalone = render(plot, f"{found.dataset}-{name}", title, size)
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


def groups(found: Findings, all_tried: Sequence[grouped.Tried]) -> Iterator[Figure]:
    for groups, names in grouped.divided(found):
        plot = partial(plots.by_group, found=found, groups=groups, names=names)
        note = grouped.told(found, [one for one in all_tried if one.key == groups.key])
        yield figure(found, f"by-{groups.key}", f"By {KEYS[groups.key]}", note, plot)
