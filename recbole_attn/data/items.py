"""What a data set knows of its items besides interactions: the columns of its .item file, or a file of vectors.

Read apart from `load_col`, so that any model can ask for it and no other model's data change.
"""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

import numpy as np
from recbole.utils import FeatureType

from recbole_attn.config.checks import nearest
from recbole_attn.data.atomic import read_header, read_table
from recbole_attn.errors import UserError
from recbole_attn.semantic_ids.text import Column

_KINDS = {FeatureType.TOKEN: "token", FeatureType.TOKEN_SEQ: "text", FeatureType.FLOAT: "number"}


def read_item_columns(
    path: Path, item_field: str, item_ids: Sequence[str], chosen: Sequence[str] | None, separator: str, encoding: str
) -> list[Column]:
    """Columns of an .item file, in the order of `item_ids`. An item without a row has no value; their number is logged.

    Args:
        chosen: which columns; None for all but the item's id and vectors.

    Raises:
        UserError: a column that the file does not have or that holds vectors, or a file that cannot be read.
    """
    header = read_header(path, separator, encoding)
    if item_field not in header:
        raise UserError(f"ITEM_ID_FIELD={item_field}: no such column in {path} (there: {', '.join(header)})")
    usable = [name for name, kind in header.items() if name != item_field and kind in _KINDS]
    for name in chosen or ():
        if name not in usable:
            hint = nearest(name, usable) or f"; there are {', '.join(usable) or 'none'}"
            raise UserError(f"item_columns: {name!r} is no column of {path} to make text of{hint}")
    fields = {name: header[name] for name in (item_field, *(usable if chosen is None else chosen))}
    frame = read_table(path, header, fields, separator, encoding)
    frame[item_field] = frame[item_field].astype(str)
    frame = frame.drop_duplicates(item_field).set_index(item_field)
    without = [item for item in item_ids if item not in frame.index]
    if without:
        getLogger().warning(f"{len(without)} of {len(item_ids)} items have no row in {path}, {without[0]} for one")
    frame = frame.reindex(list(item_ids))
    return [Column(name, _KINDS[kind], _values(frame[name], kind)) for name, kind in fields.items() if name in frame]


def _values(column, kind: FeatureType):
    if kind == FeatureType.FLOAT:
        return column.to_numpy(np.float64)
    values = column.astype(object)
    return values.where(values.notna(), None).tolist()


def read_vector_column(
    path: Path, item_field: str, separator: str, seq_separator: str, encoding: str
) -> tuple[list[str], np.ndarray]:
    """Item ids (n,) and vectors (n, V) of an atomic file, such as RecBole's additional item features.

    The id is `item_field`, or else the first token column; the vector is the only float_seq column.

    Raises:
        UserError: no such columns, or vectors of different lengths.
    """
    header = read_header(path, separator, encoding)
    tokens = [name for name, kind in header.items() if kind == FeatureType.TOKEN]
    vectors = [name for name, kind in header.items() if kind == FeatureType.FLOAT_SEQ]
    if not tokens or len(vectors) != 1:
        raise UserError(f"{path}: needs one token column (ids) and one float_seq column (vectors)")
    key = item_field if item_field in tokens else tokens[0]
    frame = read_table(path, header, {name: header[name] for name in (key, vectors[0])}, separator, encoding)
    items = frame[key].astype(str).tolist()
    cells = [[part for part in text.split(seq_separator) if part] for text in frame[vectors[0]].fillna("").astype(str)]
    for item, cell in zip(items, cells):
        if len(cell) != len(cells[0]):
            raise UserError(
                f"{path}: item {item} has {len(cell)} numbers, the first item {len(cells[0])}; "
                "give every item a vector of one length"
            )
    try:
        return items, np.array(cells, dtype=np.float64)
    except ValueError as error:
        raise UserError(f"{path}: column {vectors[0]} holds something else than numbers ({error})") from error
