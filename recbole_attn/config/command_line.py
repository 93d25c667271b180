"""The command line: `--key=value` and `--key value`, nested keys with dots, values typed as in YAML."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from recbole_attn.config import schema
from recbole_attn.errors import UserError
from recbole_attn.registry import properties_dir

PREDICTION = ("predict", "checkpoint", "k", "exclude_seen")  # options of recommending; k is also ItemKNN's setting


class _ValueLoader(yaml.SafeLoader):
    """YAML for one value, without what surprises there: yes and no, dates, octal numbers. None is null."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (PyYAML's own name and form)


_ValueLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|None)?$"), ["~", "n", "N", ""])
_ValueLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?i:true|false)$"), list("tTfF"))
_ValueLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_ValueLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


def typed(text: str) -> Any:
    """The value that `text` stands for: 1e-3 a float, True a bool, None null, [1, 2] a list; else the text itself."""
    try:
        if text[:1] in ("[", "{", "'", '"'):
            return yaml.load(text, Loader=_ValueLoader)
        loader = _ValueLoader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        return loader.construct_object(yaml.ScalarNode(tag, text)) if text else text
    except yaml.YAMLError:
        return text


def run_options() -> dict[str, schema.Setting]:
    """The options that are no settings: model, dataset, resume, help and so on."""
    return schema.read(properties_dir() / "run.yaml")


def parse_command_line(argv: Sequence[str]) -> dict[str, Any]:
    """The settings and run options of a command line, nested keys as nested dicts. A flag such as --help is True.

    Raises:
        UserError: a word that is no option, an option without a value, or one option with two values.
    """
    options: dict[str, Any] = {}
    words = list(argv)
    while words:
        key, text = _take(words)
        option = run_options().get(key)
        value = True if text is None else typed(text)
        _insert(options, key, value if option is None else option.check(value, "command line"))
    return options


def spell(options: Mapping[str, Any]) -> str:
    """A command line that `parse_command_line` makes these options of."""
    return shlex.join(["python", "run_recbole_attn.py", *_words("--", options)])


def _words(start: str, values: Mapping[str, Any]) -> list[str]:
    words = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            words += _words(f"{start}{key}.", value)
        else:
            words.append(f"{start}{key}={json.dumps(value) if isinstance(value, (list, dict)) else value}")
    return words


def _take(words: list[str]) -> tuple[str, str | None]:
    """Remove the first option from `words`: its key, and its text or None for a flag."""
    word = words.pop(0)
    word = "--help" if word == "-h" else word
    key, equals, text = word[2:].partition("=")
    if not word.startswith("--") or not all(key.split(".")):
        raise UserError(f"{word!r} is not an option: write --setting=value")
    if equals:
        return key, text
    option = run_options().get(key)
    if option and option.types == ("bool",):
        return key, None
    if not words or words[0].startswith("--"):
        raise UserError(f"--{key} has no value: write --{key}=value")
    return key, words.pop(0)


def _insert(options: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        options = options.setdefault(parent, {})
        if not isinstance(options, dict):
            raise UserError(f"--{key} and --{parent}={options} contradict each other: give one of them")
    if last in options and not _same(options[last], value):
        raise UserError(f"--{key} is given twice, as {options[last]!r} and as {value!r}: give it once")
    options[last] = value


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and old == new
