"""Which line of an atomic file is wrong, and why."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from recbole_attn.errors import UserError

_BLOCK = 1 << 23  # bytes checked at a time
_NEWLINE, _RETURN = b"\n\r"


def check_columns(path, separator, columns: int) -> bool:
    """pandas fills short rows and cuts long ones without a word; here they stop the run.

    A file with quotes is left to pandas from there on: quoted cells may hold separators. Returns whether there may be
    any, so that `check_rows` has to be asked.

    Raises:
        UserError: naming the first line whose number of columns is not `columns`.
    """
    if len(separator) != 1 or not separator.isascii():
        return True
    done, rest = 0, b""
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            block, end = rest + block, (rest + block).rfind(b"\n") + 1
            block, rest = block[:end], block[end:]
            if b'"' in block:
                return True
            done += _check_block(path, block, separator, columns, done)
    if b'"' in rest:
        return True
    if rest:
        _check_block(path, rest + b"\n", separator, columns, done)
    return False


def check_rows(path, rows: int) -> None:
    """A quotation mark that opens a cell and is not closed in its line makes one cell of many lines.

    Raises:
        UserError: there are fewer rows than lines.
    """
    with Path(path).open("rb") as file:
        lines = sum(bool(line.strip()) for line in file) - 1
    if rows < lines:
        raise UserError(
            f"{path}: {lines} lines make {rows} rows, because a cell that begins with a quotation mark ends in another "
            'line; take such marks ("), or the line breaks within cells, out of the file'
        )


def _check_block(path, block, separator, columns, done) -> int:
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    found = np.diff(np.searchsorted(np.flatnonzero(data == ord(separator)), ends), prepend=0) + 1
    wrong = found != columns
    if wrong.any():
        sizes = np.diff(ends, prepend=-1) - 1
        blank = (sizes == 0) | ((sizes == 1) & (data[ends - 1] == _RETURN))
        wrong &= ~blank
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(f"{path}, line {done + row + 1}: {found[row]} columns where the header names {columns}")
    return len(ends)


def blame_encoding(path, encoding, error) -> NoReturn:
    """Raise UserError naming the first line that is not `encoding`."""
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                raise UserError(f"{path}, line {number}: not {encoding}; set encoding to the file's own") from error
    raise UserError(f"{path}: not {encoding}; set encoding to the file's own") from error


def blame_number(path, labels, how, error) -> NoReturn:
    """Raise UserError naming the first cell of the float columns `labels` that is not a number."""
    if labels and not isinstance(error, pd.errors.ParserError):
        text = pd.read_csv(path, dtype=str, skip_blank_lines=False, **{**how, "usecols": labels})
        for label in labels:
            wrong = text[label].notna() & pd.to_numeric(text[label], errors="coerce").isna()
            if wrong.any():
                row, field = int(wrong.argmax()), label.split(":")[0]
                raise UserError(
                    f"{path}, line {row + 2}: {text[label][row]!r} in the float column {field} is not a number"
                ) from error
    raise UserError(f"{path}: cannot be parsed ({' '.join(str(error).split())})") from error
