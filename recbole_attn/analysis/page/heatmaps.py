"""Maps as figures: a layer a figure, heads in rows, and the maps of the mechanism in columns.

Weights of all models in one layer share a scale, which diverges where some are negative. A keep-mask, which is no
weight, has its own, from 0 to 1, and so has the change from the first map to the final one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recbole_attn.analysis.maps import Maps
from recbole_attn.analysis.page.sentences import shorten

SHOWN = 20  # newest positions; the arrays have all
CHANGE = "change"
_FIRST = 3  # rows
_PANEL, _TALL, _GAP, _BELOW, _LETTERS = 1.13, 1.9, 0.07, 0.7, 20  # inches, the tall for titles; letters of a title
_BARS = {"keep-mask": "share kept", CHANGE: "change"}


class Scale(NamedTuple):
    """How values become colours; panels with one scale can be compared."""

    low: float
    high: float
    diverging: bool


def panels(layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The newest positions of each map (H, n, n), and the change from the first to the final one."""
    cut = {name: found[:, -SHOWN:, -SHOWN:] for name, found in layer.items()}
    names = list(cut)
    return {**cut, CHANGE: cut[names[-1]] - cut[names[0]]} if len(names) > 1 else cut


def weight_scale(layers: Sequence[dict[str, np.ndarray]]) -> Scale:
    """The one scale of all weights in these layers, which are to be compared."""
    weights = [found for layer in layers for name, found in panels(layer).items() if name not in _BARS]
    high = max(_reach(found) for found in weights)
    signed = any(np.nanmin(found) < -1e-6 for found in weights)
    return Scale(-high if signed else 0, high, signed)


def scales(shown: dict[str, np.ndarray], weights: Scale) -> dict[str, Scale]:
    """The scale of each panel."""
    own = {"keep-mask": Scale(0, 1, False)}
    if CHANGE in shown:
        reach = _reach(shown[CHANGE])
        own[CHANGE] = Scale(-reach, reach, True)
    return {name: own.get(name, weights) for name in shown}


def _reach(found: np.ndarray) -> float:
    """The size that all but the largest 1 % of the cells stay below, not counting rows that have next to no choice."""
    later = found[:, _FIRST:] if found.shape[1] > 2 * _FIRST else found
    sizes = np.abs(later[np.isfinite(later) & (later != 0)])
    return float(np.quantile(sizes, 0.99)) if len(sizes) else 1.0


def size(layer: dict[str, np.ndarray], titled: bool) -> tuple[float, float]:
    """Inches of the figure of one layer."""
    heads = next(iter(layer.values())).shape[0]
    width = _left(titled) + (_PANEL + _GAP) * len(panels(layer)) + 0.1
    return width, _BELOW + (_height(titled) + _GAP) * heads + 0.2


def _left(titled: bool) -> float:
    return 1.3 if titled else 0.4


def _height(titled: bool) -> float:
    return _TALL if titled else _PANEL


def draw_layer(canvas, maps: Maps, depth: int, titled: bool, weights: Scale) -> None:
    """Draw the maps of one layer on an empty matplotlib figure; rows are named by titles, or by steps."""
    canvas.set_layout_engine("none")  # all places are known, and looking for them takes most of the time
    shown = panels(maps.layers[depth])
    scale, heads = scales(shown, weights), next(iter(shown.values())).shape[0]
    bars: dict[Scale, tuple[Any, str, list[int]]] = {}
    for column, (name, found) in enumerate(shown.items()):
        for head in range(heads):
            height = _height(titled)
            bottom = _BELOW + (heads - 1 - head) * (height + _GAP)
            at = (_left(titled) + column * (_PANEL + _GAP), bottom, _PANEL, height)
            axes = _axes(canvas, at)
            image = _draw(axes, found[head], scale[name])
            _label(axes, maps.labels[-SHOWN:], titled, left=column == 0, bottom=head == heads - 1)
            if head == 0:
                axes.set_title(name, fontsize=7, pad=3)
            if column == 0:
                canvas.text(0.12 / canvas.get_figwidth(), (bottom + height / 2) / canvas.get_figheight(),
                            f"head {head + 1}", rotation=90, va="center", ha="center", fontsize=7)  # fmt: skip
        bars.setdefault(scale[name], (image, _BARS.get(name, "weight"), []))[2].append(column)
    for image, label, columns in bars.values():
        _bar(canvas, image, label, columns, _left(titled))


def _axes(canvas, at: Sequence[float]):
    """Axes at (left, bottom, width, height) in inches."""
    width, height = canvas.get_size_inches()
    return canvas.add_axes((at[0] / width, at[1] / height, at[2] / width, at[3] / height))


def _bar(canvas, image, label: str, columns: list[int], left: float) -> None:
    """The scale, below the first of its panels that stand together."""
    run = 1 + sum(columns[place + 1] == columns[0] + place + 1 for place in range(len(columns) - 1))
    width = min(run, 3) * (_PANEL + _GAP) - _GAP - 0.2
    bar = canvas.colorbar(
        image,
        cax=_axes(canvas, (left + columns[0] * (_PANEL + _GAP) + 0.1, 0.34, width, 0.06)),
        orientation="horizontal",
        extend={"weight": "max", "change": "both"}.get(label, "neither"),
    )
    bar.set_label(label, fontsize=6, labelpad=1)
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    bar.ax.locator_params(nbins=3)
    bar.outline.set_visible(False)


def _draw(axes, found: np.ndarray, scale: Scale):
    """What may not be read is left empty."""
    axes.grid(False)
    axes.tick_params(length=0, labelsize=6, pad=1)
    for side in axes.spines.values():
        side.set_visible(False)
    colours = "coolwarm" if scale.diverging else "viridis"
    visible = np.where(found == 0, np.nan, found)
    return axes.imshow(visible, cmap=colours, vmin=scale.low, vmax=scale.high, interpolation="none", aspect="auto")


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
