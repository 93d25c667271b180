"""The types a setting may have, by the names that the comments of property files use.

int, float, bool, str, list, dict, none; interval ("[5,inf)", several joined by ";"); `list of TYPE`; or a word that
stands for itself, with <int> for a whole number >= 1. int and float take bounds: `int >= 1`, `float in [0, 1)`.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from pathlib import Path
from typing import Any

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf)"
_BOUND = rf"\s*(?:>=|<=|>|<)\s*{_NUMBER}|\s+in\s+[\[(]\s*{_NUMBER}\s*,\s*{_NUMBER}\s*[\])]"
TYPE = rf"(?:list of )*[\w@/+.-]+(?:<int>)?(?:{_BOUND})*"
_INTERVAL = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]")
_COMPARE = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


def convert(kind: str, value: Any) -> Any:
    """`value` as the type `kind`, say "list of int >= 1".

    Raises:
        ValueError: it is not one.
    """
    if kind.startswith("list of "):
        return [convert(kind[len("list of ") :], element) for element in _list(value)]
    name, *bounds = _split_bounds(kind)
    if name not in _CONVERT:
        return _word(name, value)
    converted = _CONVERT[name](value)
    if not all(_within(bound, converted) for bound in bounds):
        raise ValueError(value)
    return converted


@functools.cache
def _split_bounds(kind: str) -> tuple[str, ...]:
    bounds = tuple(match.group().strip() for match in re.finditer(_BOUND, kind))
    return (re.sub(_BOUND, "", kind).strip(), *bounds)


def _within(bound: str, value: float) -> bool:
    if bound.startswith("in"):
        low, high = (float(end) for end in bound[2:].strip(" []()").split(","))
        above = value >= low if "[" in bound else value > low
        return above and (value <= high if "]" in bound else value < high)
    symbol, limit = re.fullmatch(r"([<>]=?)\s*(.+)", bound).groups()  # type: ignore[union-attr]
    return _COMPARE[symbol](value, float(limit))


def _demand(valid: bool, value: Any) -> Any:
    if not valid:
        raise ValueError(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _int(value: Any) -> int:
    return int(_demand(_is_number(value) and value == int(value), value))


def _float(value: Any) -> float:
    return _demand(_is_number(value), value)


def _list(value: Any) -> list:
    return list(_demand(isinstance(value, (list, tuple)), value))


def _str(value: Any) -> str:
    return str(_demand(isinstance(value, (str, int, Path)) and not isinstance(value, bool), value))


def _none(value: Any) -> None:
    _demand(value is None or (isinstance(value, str) and value.lower() == "none"), value)


def _word(word: str, value: Any) -> str:
    text = "" if isinstance(value, (list, dict)) else str(value)
    if "<int>" in word:
        return _demand(re.fullmatch(re.escape(word).replace("<int>", "[1-9][0-9]*"), text) is not None, value) and text
    return _demand(text.lower() == word.lower(), value) and word


def _interval(value: Any) -> str:
    text = f"[{value[0]},{value[1]}]" if isinstance(value, list) and len(value) == 2 else str(value)
    return _demand(all(_is_interval(part.strip()) for part in text.split(";")), text)


def _is_interval(text: str) -> bool:
    match = _INTERVAL.fullmatch(text)
    return match is not None and float(match[1]) <= float(match[2])


_CONVERT = {
    "int": _int,
    "float": _float,
    "bool": lambda value: _demand(isinstance(value, bool), value),
    "str": _str,
    "list": _list,
    "dict": lambda value: _demand(isinstance(value, dict), value),
    "none": _none,
    "interval": _interval,
}


def admits(types: tuple[str, ...], value: Any) -> bool:
    for kind in types:
        try:
            convert(kind, value)
        except ValueError:
            continue
        return True
    return False


def kind_of(value: Any) -> str:
    if value is None:
        return "none"
    names = {bool: "bool", int: "float", float: "float", list: "list", dict: "dict"}
    return names.get(type(value), "str")
