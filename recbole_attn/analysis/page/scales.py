"""How the values of maps become colours: one scale for all maps that are compared.

In one layer the weights of all models share a scale, from 0; maps with negative cells share another one, which
diverges from 0 by as much both ways. What is no weight to compare has a scale of its own: AWRSR's correlations, which
come near 1, AC-TSR's keep-mask, and the change from the first to the final map. Colours go by the square root, since
single weights are many times the common ones; those of keep-masks by the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recbole_attn.analysis.maps import Maps

SHOWN = 20  # newest positions; the arrays have all
WEIGHT, SIGNED, CHANGE, KEPT = "weight", "signed weight", "change", "share kept"
_APART = {"R": "correlation", "keep-mask": KEPT}
_FIRST = 3  # rows that have next to no choice
_NARROWEST = 0.1  # range of keep-masks: what differs by less is alike


class Scale(NamedTuple):
    """The colours of some panels.

    Attributes:
        label: what the values are.
        low, high: the values at the ends; from -high to high, colours diverge from 0.
    """

    label: str
    low: float
    high: float

    @property
    def diverging(self) -> bool:
        return self.low < 0

    @property
    def by_root(self) -> bool:
        return self.label != KEPT

    @property
    def ticks(self) -> list[float]:
        """Values of one digit, at about the ends and the middle of the bar."""
        if not self.by_root:
            return [self.low, self.high]
        top = _one_digit(self.high)
        return [-top, 0, top] if self.diverging else [0, _one_digit(self.high / 4), top]


def _one_digit(value: float) -> float:
    unit = 10.0 ** np.floor(np.log10(value))
    return float(np.floor(value / unit + 1e-9) * unit)


def signed_root(values: np.ndarray) -> np.ndarray:
    """The square root, with the sign of the value."""
    return np.sign(values) * np.sqrt(np.abs(values))


def signed_square(values: np.ndarray) -> np.ndarray:
    """The inverse of `signed_root`."""
    return values * np.abs(values)


def panels(layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The newest positions of each map (H, n, n), and the change from the first to the final one."""
    cut = {name: found[:, -SHOWN:, -SHOWN:] for name, found in layer.items()}
    names = list(cut)
    return {**cut, CHANGE: cut[names[-1]] - cut[names[0]]} if len(names) > 1 else cut


def scales(models: Sequence[Maps]) -> list[list[dict[str, Scale]]]:
    """The scale of each panel of each layer of each model, whose maps are to be compared."""
    labels = [_labels(maps) for maps in models]
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    for maps, named in zip(models, labels):
        for depth, layer in enumerate(maps.layers):
            for name, values in panels(layer).items():
                found.setdefault((depth, named[depth][name]), []).append(values)
    made = {(depth, label): _scale(label, values) for (depth, label), values in found.items()}
    return [
        [{name: made[depth, label] for name, label in layer.items()} for depth, layer in enumerate(named)]
        for named in labels
    ]


def _labels(maps: Maps) -> list[dict[str, str]]:
    """What the values of each panel of each layer are. A map that is signed in one layer is so in all."""
    shown = [panels(layer) for layer in maps.layers]
    signed = {name for layer in shown for name, values in layer.items() if np.nanmin(values) < -1e-6}
    found = []
    for layer in shown:
        final = [name for name in layer if name != CHANGE][-1]  # which weighs, whatever its name
        apart = {**{name: label for name, label in _APART.items() if name != final}, CHANGE: CHANGE}
        found.append({name: apart.get(name, SIGNED if name in signed else WEIGHT) for name in layer})
    return found


def _scale(label: str, values: Sequence[np.ndarray]) -> Scale:
    if label == KEPT:
        cells = np.concatenate([part[np.isfinite(part) & (part != 0)] for part in values])
        high = float(np.ceil(cells.max() * 100) / 100)
        return Scale(label, min(float(np.floor(cells.min() * 100) / 100), max(0.0, high - _NARROWEST)), high)
    reach = max(map(_reach, values))
    return Scale(label, -reach if label in (SIGNED, CHANGE) else 0.0, reach)


def _reach(found: np.ndarray) -> float:
    """The size that all but the largest 1 % of the cells stay below."""
    later = found[:, _FIRST:] if found.shape[1] > 2 * _FIRST else found
    sizes = np.abs(later[np.isfinite(later) & (later != 0)])
    return float(np.quantile(sizes, 0.99)) if len(sizes) else 1.0
