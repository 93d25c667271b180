"""Rows against the control in groups of cases, counted: of many intervals some leave 0 out by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from recbole_attn.analysis.findings import Findings
from recbole_attn.analysis.groups import KEYS, Groups, group
from recbole_attn.analysis.page import sentences
from recbole_attn.compare.report.blocks import Cell, Grid, Text, cells, number
from recbole_attn.compare.report.figures import group_names
from recbole_attn.compare.statistics import LEVEL, Comparison, holm

_DAY = 86_400


class Tried(NamedTuple):
    """One row against the control in one group; `corrected` is its p by Holm's method over all that were tried."""

    row: str
    key: str
    group: str
    against: Comparison
    corrected: float

    @property
    def differs(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.against.low * self.against.high > 0


def divided(found: Findings) -> list[tuple[Groups, list[str]]]:
    """The cases by each of `KEYS` that is known, and what to call the groups."""
    known = [groups for key in KEYS if (groups := group(found.cases, key)) is not None]
    return [(groups, _names(groups)) for groups in known]


def tried(found: Findings) -> list[Tried]:
    """Every row in every group; nothing without a control."""
    against = {
        (row.name, groups.key, number, names[number]): one
        for base, row in found.pairs
        for groups, names in divided(found)
        for number, one in enumerate(groups.against(row.scores, base.scores, found.cases.user))
    }
    corrected = holm({place: one.p for place, one in against.items()})
    return [Tried(row, key, name, one, corrected[row, key, n, name]) for (row, key, n, name), one in against.items()]


def told(found: Findings, tried: Sequence[Tried]) -> str:
    """In which groups of one kind a row differs from the control."""
    parts = ["Bars: 95 % interval over users."]
    for base, row in found.pairs:
        said = "; ".join(_said(one) for one in tried if one.row == row.name and one.differs)
        parts.append(f"{row.name} against {base.name}: {said or 'no difference shows in any group'}.")
    return " ".join(parts)


def _said(one: Tried) -> str:
    verdict = sentences.verdict(one.against.difference, one.against, 4, "better", "worse")
    return f"{one.group}: {verdict}, p corrected for all groups {one.corrected:.2f}"


def counted(all_tried: Sequence[Tried]) -> list[Text | Grid]:
    """How many groups were looked at, how many differ, by chance and here, and those that do."""
    if not all_tried:
        return []
    differing = [one for one in all_tried if one.differs]
    left = sum(one.corrected < 1 - LEVEL for one in differing)
    text = (
        f"{len(all_tried)} intervals were looked at. If no model differed from the control in any group, about "
        f"{(1 - LEVEL) * len(all_tried):.1f} of them would leave 0 out by chance; {len(differing)} do. Corrected for "
        f"their number by Holm's method, {left or 'none'} of these differences {'are' if left > 1 else 'is'} left."
    )
    rows = [
        cells(one.row, KEYS[one.key], one.group, one.against.users, _difference(one), _within(one),
              number(one.against.p), number(one.corrected))
        for one in differing
    ]  # fmt: skip
    head = ["model", "by", "group", "users", "difference", "95 % interval", "p", "p, Holm"]
    note = "Paired by user, trainings averaged; p of the paired t-test, alone and corrected for all looked at."
    return [Text(text), *([Grid(head, rows, note)] if rows else [])]


def _difference(one: Tried) -> Cell:
    return Cell(sentences.signed(one.against.difference, 4), one.against.difference)


def _within(one: Tried) -> str:
    return f"{sentences.signed(one.against.low, 4)} to {sentences.signed(one.against.high, 4)}"


def _names(groups: Groups) -> list[str]:
    if groups.key != "gap":
        return group_names(groups.edges)
    highs = [_duration(high) for _, high in groups.edges]
    if len(set(highs)) < len(highs):
        highs = [f"{high:,} s" for _, high in groups.edges]
    names = [high if high == "0 s" else f"≤ {high}" for high in highs]
    return [*names[:-1], f"> {highs[-2]}"] if len(highs) > 1 else names


def _duration(seconds: int) -> str:
    for unit, size in (("d", _DAY), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds} s"
