"""Reads atomic files with pandas' C engine, token columns as categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

from recbole_attn.data.lines import blame_encoding, blame_number, check_columns, check_rows
from recbole_attn.errors import UserError

_ROWS = 1 << 20  # parsed at a time: pandas' own, smaller pieces cost three times as much for categories


class FastReading(Dataset):
    """The same frames and ids as RecBole's, read and numbered without Python loops."""

    def _load_feat(self, filepath, source):
        load, unload = self._get_load_and_unload_col(source)
        if load == set():
            return None
        encoding = self.config["encoding"] or "utf-8"
        separator = self.config["field_separator"]
        header = read_header(filepath, separator, encoding)
        fields = {
            field: kind
            for field, kind in header.items()
            if (load is None or field in load) and field not in (unload or ())
        }
        if not fields:
            self.logger.warning(f"none of the columns of {filepath} is loaded: see load_col and unload_col")
            return None
        self._declare(fields, source)
        frame = read_table(filepath, header, fields, separator, encoding)
        for field, kind in fields.items():
            if kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ):
                self._split_cells(frame, field, kind, filepath)
        return frame

    def _declare(self, fields, source):
        for field, kind in fields.items():
            self.field2source[field] = source
            self.field2type[field] = kind
            if kind in (FeatureType.TOKEN, FeatureType.FLOAT):
                self.field2seqlen[field] = 1
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                self.field2bucketnum[field] = 2

    def _split_cells(self, frame, field, kind, path):
        separator = self.config["seq_separator"]
        cells = [[part for part in text.split(separator) if part] for text in frame[field].fillna("")]
        limit = (self.config["seq_len"] or {}).get(field)
        longest = max(map(len, cells))
        try:
            convert = np.array if kind == FeatureType.TOKEN_SEQ else _numbers
            # The whole cell first: cut, its strings would stay as wide as the longest one in RecBole's arrays.
            frame[field] = pd.Series([convert(cell)[:limit] for cell in cells], index=frame.index, dtype=object)
        except ValueError as error:
            raise UserError(f"{path}: column {field} holds something else than numbers ({error})") from error
        self.field2seqlen[field] = longest if limit is None else min(limit, longest)

    def _remap(self, remap_list):
        """Number tokens from 1 in order of first appearance over all columns of `remap_list`; 0 is padding."""
        columns = [feat[field] for feat, field, _ in remap_list]
        if not columns or not all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
            super()._remap(remap_list)
            return
        tokens = union_categoricals([column.array for column in columns])
        codes, known = pd.factorize(tokens)
        id_token = np.array(["[PAD]", *known])
        token_id = {token: i for i, token in enumerate(id_token)}
        ends = np.cumsum([len(column) for column in columns])[:-1]
        for (feat, field, _), ids in zip(remap_list, np.split(codes + 1, ends)):
            self.field2id_token.setdefault(field, id_token)
            self.field2token_id.setdefault(field, token_id)
            feat[field] = ids


def _numbers(cell):
    return np.array([float(part) for part in cell])


def read_header(path, separator, encoding) -> dict[str, FeatureType]:
    """The fields of an atomic file in order, with their types.

    Raises:
        UserError: unreadable, empty, wrongly encoded, or a header that is not `name:type` throughout.
    """
    try:
        with open(path, encoding=encoding) as file:
            line = file.readline().rstrip("\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        blame_encoding(path, encoding, error)
    except LookupError as error:
        raise UserError(f"encoding = {encoding}: Python knows none of this name; use utf-8 or latin-1") from error
    if not line:
        raise UserError(f"{path}, line 1: the file is empty or has no header; expected name:type columns")
    header = {}
    for cell in line.split(separator):
        field, _, kind = cell.partition(":")
        if not field or not kind or field in header:
            raise UserError(f"{path}, line 1: {cell!r} is not name:type, or stands twice; see field_separator")
        if kind not in {known.value for known in FeatureType}:
            names = ", ".join(known.value for known in FeatureType)
            raise UserError(f"{path}, line 1: unknown type {kind!r} of column {field}; the types are {names}")
        header[field] = FeatureType(kind)
    return header


def read_table(path, header, fields, separator, encoding) -> pd.DataFrame:
    """The columns `fields` of an atomic file: tokens as categories, floats as float64, sequences as text.

    Raises:
        UserError: wrong number of columns in a row, a float that is none, bad encoding, no rows, an unclosed quote.
    """
    quoted = check_columns(path, separator, len(header))
    labels = {f"{field}:{kind.value}": kind for field, kind in fields.items()}
    dtypes: dict[FeatureType, Any] = {FeatureType.TOKEN: "category", FeatureType.FLOAT: np.float64}
    # "high" gives the bits of the engine that RecBole uses, "round_trip" would not.
    fast = {"engine": "c", "float_precision": "high", "low_memory": False}
    engine = fast if len(separator) == 1 and separator.isascii() else {"engine": "python"}
    how = {"sep": separator, "usecols": list(labels), "encoding": encoding, **engine}
    dtype = {label: dtypes.get(kind, str) for label, kind in labels.items()}
    try:
        with pd.read_csv(path, dtype=dtype, chunksize=_ROWS, **how) as reader:
            frame = _concatenate(list(reader))
    except UnicodeDecodeError as error:
        blame_encoding(path, encoding, error)
    except (ValueError, pd.errors.ParserError) as error:
        blame_number(path, [label for label, kind in labels.items() if kind == FeatureType.FLOAT], how, error)
    if frame.empty:
        raise UserError(f"{path}: a header and no rows")
    if quoted:
        check_rows(path, len(frame))
    return frame.set_axis(list(fields), axis=1)


def _concatenate(chunks) -> pd.DataFrame:
    if len(chunks) < 2:
        return chunks[0] if chunks else pd.DataFrame()
    columns = {}
    for label in chunks[0]:
        parts = [chunk.pop(label).array for chunk in chunks]
        joined = union_categoricals(parts) if isinstance(parts[0], pd.Categorical) else np.concatenate(parts)
        columns[label] = joined
    return pd.DataFrame(columns, copy=False)
