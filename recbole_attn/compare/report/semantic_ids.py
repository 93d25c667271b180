"""What the codes of items are like, for the rows that have them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recbole_attn.compare.outcome import Table
from recbole_attn.compare.report.blocks import Cell, Grid, Section, cells, number

_HEAD = (
    *("row", "vectors", "quantizer", "codes × values"),
    *("collision rate", "least usage", "mean usage", "reconstruction error"),
)
_NOTE = (
    "Means over seeds. Collision rate: share of items whose codes another item has too. Usage: share of a position's "
    "values that some item has, at the position where it is least and on average. Reconstruction error: squared, as a "
    "share of the vectors' variance."
)


def semantic_ids(table: Table) -> Section:
    """A section without blocks where no row has codes, or none says what they are like."""
    found = {
        line.name: [result["semantic_ids"] for result in line.results if result.get("semantic_ids")]
        for line in table.finished
    }
    rows = [_row(name, reports) for name, reports in found.items() if reports]
    return Section(f"Semantic ids on {table.dataset}", [Grid(_HEAD, rows, _NOTE)] if rows else [])


def _row(name: str, reports: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """Seeds share all but the values of the codes; `reports` has one of each."""
    first = reports[0]
    made = [str(first.get("item_vectors", "unknown")), str(first["quantizer"])]
    numbers = [
        [report["collision_rate"] for report in reports],
        [min(report["code_usage"]) for report in reports],
        [np.mean(report["code_usage"]) for report in reports],
        [report.get("reconstruction_error", math.nan) for report in reports],
    ]
    means = [number(float(np.mean(values))) for values in numbers]
    return cells(name, *made, f"{first['n_codes']} × {first['n_values']}", *means)
