"""A plain table item_id → codes: tab-separated text that other programs can make and read.

# {"n_values": 64, "made": {...}, "report": {...}}     may be missing, as may be any remark after "# "
item_id <tab> code_1 <tab> ... <tab> code_K            one line an item
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_attn.errors import UserError
from recbole_attn.semantic_ids.ids import SemanticIds, with_padding

_MOST = 1 << 16  # values of a code, as many as the setting code_bits allows


class Table(NamedTuple):
    """Items in order, their codes (n, K), and what the first line says of them; {} where it says nothing."""

    items: list[str]
    codes: np.ndarray
    about: dict[str, Any]


def write_table(path: Path, ids: SemanticIds, item_ids: Sequence[str], made: dict[str, Any]) -> None:
    """Write the codes of all items but padding. `item_ids` are those of the catalogue, padding first.

    Raises:
        UserError: the file cannot be written.
    """
    about = {"n_values": ids.n_values, "made": made, "report": ids.report}
    lines = ["# " + json.dumps(about)]
    lines += ["\t".join([item, *map(str, codes)]) for item, codes in zip(item_ids[1:], ids.codes[1:].tolist())]
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(beside, path)  # another run may read it at this moment
    except OSError as error:
        raise UserError(f"semantic_ids={path}: cannot be written ({error.strerror}); name another file") from error


def read_table(path: Path) -> Table:
    """Read a table of codes.

    Raises:
        UserError: it cannot be read, its first line says what cannot be, a line has other columns than the one before,
            or a code is no whole number in [0, 65536).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors put a mark first
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"semantic_ids={path}: cannot be read ({error}); give a text file of item_id<tab>codes"
        ) from error
    lines = text.removesuffix("\n").split("\n") if text else []  # not splitlines: ids may hold what else ends a line
    items: list[str] = []
    codes: list[list[int]] = []
    about: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        if number == 1 and line.startswith("# "):
            about = _about(path, line)
            continue
        item, *cells = line.split("\t")
        items.append(item)
        codes.append(_codes(path, number, cells, len(codes[0]) if codes else None))
    if not codes:
        raise UserError(f"semantic_ids={path}: holds no item; delete it to have it made, or name another table")
    if len(set(items)) < len(items):
        twice = next(item for item in items if items.count(item) > 1)
        raise UserError(f"semantic_ids={path}: item {twice} comes twice; keep one line an item")
    return Table(items, np.array(codes, dtype=np.int64), about)


def _about(path: Path, line: str) -> dict[str, Any]:
    """What the first line says; {} where it is another program's comment."""
    try:
        about = json.loads(line[1:])
    except json.JSONDecodeError:
        return {}
    if not isinstance(about, dict):
        return {}
    n_values = about.get("n_values", _MOST)
    parts = [about.get(name, {}) for name in ("made", "report")]
    if not (isinstance(n_values, int) and 1 <= n_values <= _MOST and all(isinstance(part, dict) for part in parts)):
        raise UserError(
            f"semantic_ids={path}, line 1: n_values must be a whole number in 1 … {_MOST}, made and report must be "
            "mappings; delete this line to use the codes below it"
        )
    return about


def _codes(path: Path, number: int, cells: list[str], width: int | None) -> list[int]:
    if not cells or not all(cell.strip().isdecimal() for cell in cells) or width not in (None, len(cells)):
        wanted = f"{width} codes" if width else "codes"
        raise UserError(f"semantic_ids={path}, line {number}: each line is item_id<tab>{wanted}, whole numbers >= 0")
    codes = list(map(int, cells))
    if max(codes) >= _MOST:
        raise UserError(f"semantic_ids={path}, line {number}: the code {max(codes)} is above the most, {_MOST - 1}")
    return codes


def ids_of(path: Path, table: Table, item_ids: Sequence[str]) -> SemanticIds:
    """The codes of a catalogue, padding first; further items of the table are left alone.

    A table that does not say how many values a code has gets the next power of 2 above its largest code.

    Raises:
        UserError: the table lacks items, or holds a code that it says there is none of.
    """
    row = {item: number for number, item in enumerate(table.items)}
    missing = [item for item in item_ids[1:] if item not in row]
    if missing:
        raise UserError(
            f"semantic_ids={path}: lacks {len(missing)} of {len(item_ids) - 1} items, {missing[0]} for one; add their "
            "codes, or name a file that is not there yet to have it made"
        )
    codes = table.codes[[row[item] for item in item_ids[1:]]]
    largest = int(table.codes.max())
    n_values = table.about.get("n_values", 1 << max(1, largest.bit_length()))
    if largest >= n_values:
        raise UserError(f"semantic_ids={path}: holds the code {largest}, and its first line says n_values={n_values}")
    return SemanticIds(with_padding(codes), n_values, dict(table.about.get("report", {})))
