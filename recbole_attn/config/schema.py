"""What a setting may be, read from the comments of the property files.

A line `key: value  # (TYPE | TYPE ...) meaning` declares a setting; `value_types` says what a TYPE is. Comments go on
in the `#` lines below. RecBole's own property files use the same form, so one reader serves both, though theirs are
read with more leniency: see `read_lenient`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from recbole_attn.config.value_types import TYPE, admits, convert, kind_of
from recbole_attn.errors import UserError

_COMMENT = re.compile(rf"\(\s*({TYPE}(?:(?:\s*\|\s*|\s+or\s+|\s*,\s*){TYPE})*)\s*\)\s*(.*)", re.DOTALL)
_WORDS_OF_RECBOLE = re.compile(r"[Rr]ang(?:e|ing) in `*\[([^\]]*)\]")


_SYNONYMS_OF_RECBOLE = {"None": "none", "optional": "none", "string": "str"}


class Loader(yaml.SafeLoader):
    """YAML as RecBole reads it: 1e-3 is a float. A key that stands twice in a mapping is an error, a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own name and form)
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "a setting's name must be plain text: {{ }} is a template that was not filled in"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))(?:[eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


class Setting(NamedTuple):
    """One declared setting: dotted key, admitted types (none: anything goes), meaning, default, and its file."""

    key: str
    types: tuple[str, ...]
    meaning: str
    default: Any
    file: Path
    free: bool  # its nested keys are the user's own, such as the column names in val_interval

    @property
    def allowed(self) -> str:
        return " | ".join(self.types)

    def check(self, value: Any, origin: str) -> Any:
        """`value` as one of the admitted types: "5" for str given 5, CE for CE given ce.

        Raises:
            UserError: no type admits it.
        """
        for kind in self.types:
            try:
                return convert(kind, value)
            except ValueError:
                continue
        if not self.types:
            return value
        meaning = f" ({self.meaning.rstrip('.')})" if self.meaning else ""
        raise UserError(f"{self.key} = {value!r} ({origin}) is not allowed: it must be {self.allowed}{meaning}")


@functools.cache
def read(file: Path) -> dict[str, Setting]:
    """The settings that a property file declares, by dotted key; a key without a type has `types == ()`."""
    text = file.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=Loader)
    nested = _walk(root, yaml.load(text, Loader=Loader), text.splitlines(), file, "") if root else ()
    return {setting.key: setting for setting in nested}


def _walk(node: yaml.Node, values: dict, lines: list[str], file: Path, prefix: str) -> Iterator[Setting]:
    for key_node, value_node in node.value:
        default = values[key_node.value]
        types, meaning = _parse(_comment(key_node, value_node, lines))
        children: list[Setting] = []
        if isinstance(default, dict) and not value_node.flow_style:
            children = list(_walk(value_node, default, lines, file, f"{prefix}{key_node.value}."))
        free = isinstance(default, dict) and bool(default) and not (children and all(child.types for child in children))
        yield Setting(f"{prefix}{key_node.value}", types, meaning, default, file, free)
        yield from children


def _comment(key: yaml.Node, value: yaml.Node, lines: list[str]) -> str:
    """The comment beside a key, with the `#` lines that follow it."""
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    mark = key.end_mark if block else value.end_mark
    _, hash_sign, text = lines[mark.line][mark.column :].partition("#") if mark.line < len(lines) else ("", "", "")
    if not hash_sign:
        return ""
    parts = [text.strip()]
    for line in lines[mark.line + 1 :]:
        if not line.strip().startswith("#"):
            break
        parts.append(line.strip(" #"))
    return " ".join(parts)


def _parse(comment: str) -> tuple[tuple[str, ...], str]:
    match = _COMMENT.match(comment)
    if not match:
        return (), comment
    kinds = (kind.group() for kind in re.finditer(TYPE, re.sub(r"\s+or\s+", " | ", match[1])))
    return tuple(_SYNONYMS_OF_RECBOLE.get(kind, kind) for kind in kinds), match[2].strip()


def read_lenient(file: Path) -> dict[str, Setting]:
    """The settings of one of RecBole's files, whose comments are not always right: the default always passes."""
    return {key: _lenient(setting) for key, setting in read(file).items()}


def _lenient(setting: Setting) -> Setting:
    types = setting.types
    words = _WORDS_OF_RECBOLE.search(setting.meaning)
    if types == ("str",) and words:
        types = tuple(re.findall(r"[\w-]+", words[1]))
    if types and not admits(types, setting.default):
        types = (*types, kind_of(setting.default))
    elif not types and setting.default is not None:
        types = (kind_of(setting.default),)
    if setting.default == "None":  # FEARec's fredom_type: YAML reads a text where none is meant
        types = (*types, "none")
    return setting._replace(types=types)


@dataclasses.dataclass(frozen=True)
class Schema:
    """Every setting known for one model on one data set, by dotted key."""

    settings: dict[str, Setting]

    def get(self, key: str) -> Setting | None:
        return self.settings.get(key)

    def closed(self, key: str) -> bool:
        """Whether the nested keys of `key` are fixed, so that others are mistakes."""
        setting = self.settings.get(key)
        free = setting is not None and setting.free
        return not free and any(other.startswith(f"{key}.") for other in self.settings)
