"""What a report is made of, whatever it is written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    """A cell of a table. `value` sorts the column; `best` is set in bold; `mark` follows raised."""

    text: str
    value: float | None = None
    best: bool = False
    mark: str = ""


class Grid(NamedTuple):
    """A table: its first column names the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


class Text(NamedTuple):
    """A paragraph, or a list where `items` are given."""

    text: str = ""
    items: Sequence[str] = ()
    warning: bool = False


class Figure(NamedTuple):
    """A drawing. `inline` takes its colours from the page; `standalone` is a file of its own.

    One with a `width`, in rem, keeps it, and has its own scroll bar where the page is narrower; others fill a column.
    """

    dataset: str
    title: str
    note: str
    file: str
    inline: str
    standalone: str
    width: float = 0.0


class Section(NamedTuple):
    title: str
    blocks: Sequence[Grid | Text | Figure]


def cells(*values: Cell | str | int) -> list[Cell]:
    """A row of a table: whole numbers with thousands apart, the rest as it is."""
    return [
        value if isinstance(value, Cell) else Cell(value) if isinstance(value, str) else Cell(f"{value:,}", value)
        for value in values
    ]


def number(value: float | None, digits: int = 4) -> Cell:
    """A cell with a number; a dash where there is none."""
    if value is None or value != value:
        return Cell("–")
    return Cell(f"{value:.{digits}f}", value)


def duration(seconds: float) -> Cell:
    if seconds != seconds:
        return Cell("–")
    if seconds < 90:
        return Cell(f"{seconds:.1f} s", seconds)
    return Cell(f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h", seconds)
