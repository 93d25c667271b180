"""What people call the items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole.utils import FeatureType

from recbole_attn.data.atomic import read_header, read_table


def read_titles(config, item_ids: Sequence[str]) -> list[str]:
    """What to call each item: its title in the data set's .item file where there is one, else its id.

    The title is the first column that is called so or a name, else the first of several words.

    Raises:
        UserError: a malformed .item file.
    """
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    names: dict[str, str] = {}
    if path.is_file():
        separator, encoding = config["field_separator"], config["encoding"] or "utf-8"
        header = read_header(path, separator, encoding)
        column = title_column(header)
        fields = {name: header[name] for name in (config["ITEM_ID_FIELD"], column) if name in header}
        if len(fields) == 2:
            table = read_table(path, header, fields, separator, encoding)
            names = dict(zip(table[config["ITEM_ID_FIELD"]].astype(str), table[column].fillna("").astype(str)))
    return [names.get(item) or item for item in map(str, item_ids)]


def title_column(header: dict[str, FeatureType]) -> str | None:
    """The column of an .item file that people would call an item by."""
    words = [name for name, kind in header.items() if kind == FeatureType.TOKEN_SEQ]
    named = [name for name in header if name.lower().endswith(("title", "name"))]
    return next(iter([*named, *words]), None)
