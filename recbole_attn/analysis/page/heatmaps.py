"""Maps as figures: a layer a figure, heads in rows, and the maps of the mechanism in columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_attn.analysis.maps import Maps
from recbole_attn.analysis.page.scales import SHOWN, Scale, panels, signed_root, signed_square
from recbole_attn.analysis.page.sentences import shorten

_PANEL, _TALL, _GAP, _BELOW, _LETTERS = 1.13, 1.9, 0.07, 0.7, 20  # inches, the tall for titles; letters of a title


def size(layer: dict[str, np.ndarray], titled: bool) -> tuple[float, float]:
    """Inches of the figure of one layer."""
    heads = next(iter(layer.values())).shape[0]
    width = _left(titled) + (_PANEL + _GAP) * len(panels(layer)) + 0.1
    return width, _BELOW + (_height(titled) + _GAP) * heads + 0.2


def _left(titled: bool) -> float:
    return 1.3 if titled else 0.4


def _height(titled: bool) -> float:
    return _TALL if titled else _PANEL


def draw_layer(canvas, maps: Maps, depth: int, titled: bool, scales: dict[str, Scale]) -> None:
    """Draw the maps of one layer on an empty matplotlib figure; rows are named by titles, or by steps."""
    canvas.set_layout_engine("none")  # all places are known, and looking for them takes most of the time
    shown = panels(maps.layers[depth])
    heads, readable = next(iter(shown.values())).shape[0], _readable(shown)
    bars: dict[Scale, tuple[Any, list[int]]] = {}
    for column, (name, found) in enumerate(shown.items()):
        for head in range(heads):
            height = _height(titled)
            bottom = _BELOW + (heads - 1 - head) * (height + _GAP)
            at = (_left(titled) + column * (_PANEL + _GAP), bottom, _PANEL, height)
            axes = _axes(canvas, at)
            image = _draw(axes, np.where(readable, found[head], np.nan), scales[name])
            _label(axes, maps.labels[-SHOWN:], titled, left=column == 0, bottom=head == heads - 1)
            if head == 0:
                axes.set_title(name, fontsize=7, pad=3)
            if column == 0:
                canvas.text(0.12 / canvas.get_figwidth(), (bottom + height / 2) / canvas.get_figheight(),
                            f"head {head + 1}", rotation=90, va="center", ha="center", fontsize=7)  # fmt: skip
        bars.setdefault(scales[name], (image, []))[1].append(column)
    for scale, (image, columns) in bars.items():
        _bar(canvas, image, scale, columns, _left(titled))


def _readable(shown: dict[str, np.ndarray]) -> np.ndarray:
    """(n, n) the cells that are not 0 in all maps: a mechanism may give 0 to what may be read."""
    return np.any([np.any(np.abs(found) > 0, 0) for found in shown.values()], 0)


def _axes(canvas, at: Sequence[float]):
    """Axes at (left, bottom, width, height) in inches."""
    width, height = canvas.get_size_inches()
    return canvas.add_axes((at[0] / width, at[1] / height, at[2] / width, at[3] / height))


def _bar(canvas, image, scale: Scale, columns: list[int], left: float) -> None:
    """The scale, below the first of its panels that stand together."""
    run = 1 + sum(columns[place + 1] == columns[0] + place + 1 for place in range(len(columns) - 1))
    width = min(run, 3) * (_PANEL + _GAP) - _GAP - 0.2
    bar = canvas.colorbar(
        image,
        cax=_axes(canvas, (left + columns[0] * (_PANEL + _GAP) + 0.1, 0.34, width, 0.06)),
        orientation="horizontal",
        extend="neither" if not scale.by_root else "both" if scale.diverging else "max",
    )
    bar.set_label(scale.label, fontsize=6, labelpad=1)
    bar.set_ticks(scale.ticks, labels=[f"{tick:g}".replace("-", "−") for tick in scale.ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    bar.outline.set_visible(False)


def _draw(axes, found: np.ndarray, scale: Scale):
    """What may not be read, NaN, is left empty."""
    from matplotlib.colors import FuncNorm, Normalize

    axes.grid(False)
    axes.tick_params(length=0, labelsize=6, pad=1)
    for side in axes.spines.values():
        side.set_visible(False)
    colours = "coolwarm" if scale.diverging else "viridis"
    norm = Normalize(scale.low, scale.high)
    if scale.by_root:
        norm = FuncNorm((signed_root, signed_square), scale.low, scale.high)
    return axes.imshow(found, cmap=colours, norm=norm, interpolation="none", aspect="auto")


def _label(axes, labels: Sequence[str], titled: bool, left: bool, bottom: bool) -> None:
    steps = list(range(len(labels)))[::-1]
    marked = [place for place, step in enumerate(steps) if step % 5 == 0]
    names = [str(steps[place]) for place in marked]
    axes.set_xticks(marked if bottom else [], names if bottom else [])
    axes.set_yticks(marked if left else [], names if left else [])
    if bottom:
        axes.set_xlabel("steps back", fontsize=6, labelpad=1)
    if left and titled:
        axes.set_yticks(steps[::-1], [shorten(label, _LETTERS).replace("$", r"\$") for label in labels])
        axes.tick_params(axis="y", labelsize=6)
