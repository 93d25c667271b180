"""What --help and --show_config print."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from recbole.utils import argument_list

from recbole_attn.config import schema
from recbole_attn.config.command_line import run_options
from recbole_attn.config.layers import our_files, recbole_files
from recbole_attn.config.names import RECBOLE, recbole_models
from recbole_attn.config.settings import Settings
from recbole_attn.model import MODELS
from recbole_attn.registry import properties_dir

_WIDTH = 96


def describe(settings: Settings) -> str:
    """The final value of every setting and where it came from, in groups: model, protocol, data, RecBole's own."""
    config = settings.config
    groups = _groups(config["model"], config["dataset"])
    rows: dict[str, list[str]] = {}
    for key in sorted(settings.origins, key=str.lower):
        group = groups.get(key.partition(".")[0], "RecBole")
        rows.setdefault(group, []).append(_row(key, _value(config.final_config_dict, key), settings.origins[key]))
    computed = set(config.final_config_dict) - {key.partition(".")[0] for key in settings.origins}
    rows["Computed"] = [_row(key, config[key], "from the settings above") for key in sorted(computed, key=str.lower)]
    order = ("Model", "Protocol", "Data", "RecBole", "Computed")
    return "\n\n".join("\n".join([name, *rows[name]]) for name in order if rows.get(name))


def _groups(model: str, dataset: str) -> dict[str, str]:
    """The group of each setting that is in one; a setting of several is the protocol's, then the model's."""
    groups = dict.fromkeys(argument_list.dataset_arguments, "Data")
    for file in [*recbole_files(model, dataset), *our_files(model, dataset)]:
        name = {"model": "Model", "dataset": "Data"}.get(file.parent.name)
        if name:
            groups.update(dict.fromkeys(schema.read(file), name))
    groups.update(dict.fromkeys(schema.read(properties_dir() / "overall.yaml"), "Protocol"))
    return groups


def _value(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _row(key: str, value: Any, origin: str) -> str:
    shown = repr(value) if isinstance(value, str) and not value.strip() else value
    return f"  {f'{key} = {shown}':<58}  [{origin}]"


def help_text() -> str:
    """How to call the program, which models and data sets there are, and where each setting is documented."""
    folder = properties_dir()
    kinds = recbole_models()
    data = sorted(file.stem for file in (folder / "dataset").glob("*.yaml"))
    return "\n".join(
        [
            "Train and evaluate attention-based sequential recommenders through RecBole.",
            "",
            "usage: --model=NAME --dataset=NAME [--setting=value ...]",
            "       --model=AWRSR --dataset=ml-100k --learning_rate=1e-3 --eval_args.mode=uni100",
            "",
            "Options:",
            *(_option(option) for option in run_options().values()),
            "",
            *_block("Models of this package", MODELS),
            *_block("Sequential models of RecBole", _of_kind(kinds, "sequential")),
            *_block("General models of RecBole", _of_kind(kinds, "general")),
            *_block("Data sets with a property file (others work too)", data),
            "Settings, with meaning, allowed values and default:",
            f"  this package's models   {folder / 'model'}/NAME.yaml",
            f"  the protocol            {folder / 'overall.yaml'}",
            f"  data sets               {folder / 'dataset'}/NAME.yaml",
            f"  RecBole in general      {folder / 'recbole.yaml'}",
            f"  RecBole's models        {RECBOLE / 'properties' / 'model'}/NAME.yaml",
            "The command line wins over config files, these over the model, the data set, the protocol and RecBole.",
        ]
    )


def _option(option: schema.Setting) -> str:
    form = f"--{option.key}" if option.types == ("bool",) else f"--{option.key}={option.allowed.upper()}"
    default = f" Default: {option.default}." if option.default else ""
    text = textwrap.fill(f"{option.meaning}{default}", 100, initial_indent=" " * 28, subsequent_indent=" " * 28)
    return f"  {form:<26}{text.lstrip()}"


def _of_kind(kinds: dict[str, str], wanted: str) -> list[str]:
    return sorted((name for name, kind in kinds.items() if kind == wanted), key=str.lower)


def _block(title: str, names: Iterable[str]) -> list[str]:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) > _WIDTH:
            lines.append("")
        lines[-1] += f"  {name}"
    return [f"{title}:", *lines, ""]
