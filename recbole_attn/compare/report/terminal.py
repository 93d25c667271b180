"""The table that ends the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_attn.compare.outcome import Outcome, Table
from recbole_attn.compare.report.blocks import Grid
from recbole_attn.compare.report.content import headline
from recbole_attn.compare.report.warnings import failed, remaining, waiting, warnings


def terminal(outcome: Outcome, files: Sequence[Path]) -> str:
    """The headline table of each data set, what went wrong, and where the report lies."""
    lines: list[str] = []
    for table in outcome.tables:
        grid = headline(table)
        lines += ["", table.dataset, *_aligned(grid), grid.note, *_notices(outcome, table)]
    return "\n".join([*lines, "", f"report  {files[1]}", f"        {files[0]}"])


def _notices(outcome: Outcome, table: Table) -> list[str]:
    return [
        *(f"failed: {text}" for text in failed(outcome, table)),
        *(f"waiting: {text}" for text in waiting(outcome, table)),
        *(f"note: {sentence}" for sentence in [*warnings(outcome, table), *remaining(table), *_differing(table)]),
    ]


def _differing(table: Table) -> list[str]:
    return [f"Rows differ in {', '.join(table.differing)}; see the report."] if table.differing else []


def _aligned(grid: Grid) -> list[str]:
    rows = [list(grid.head), *([cell.text + cell.mark for cell in row] for row in grid.rows)]
    best = [[False] * len(grid.head), *([cell.best for cell in row] for row in grid.rows)]
    rows = [[f"{text} ←" if top else text for text, top in zip(row, tops)] for row, tops in zip(rows, best)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(grid.head))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]
