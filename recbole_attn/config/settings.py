"""From layers of settings to RecBole's Config: who wins, what is a mistake, and where each value came from.

Precedence: command line > config dict > config files (a later one wins) > properties/model > properties/dataset >
properties/overall.yaml > RecBole's own defaults. Everything here happens before any data is read.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole.config import Config

from recbole_attn.config.checks import (
    NAMES,
    check_built,
    check_columns,
    checked,
    fit_negative_sampling_to_loss,
    require_model,
)
from recbole_attn.config.command_line import PREDICTION, run_options, typed
from recbole_attn.config.evaluation import check_evaluation
from recbole_attn.config.layers import Layer, Stack, base_layers, read_user_file, schema_of
from recbole_attn.config.names import RECBOLE
from recbole_attn.errors import UserError

COMMAND_LINE, CONFIG_DICT = "command line", "config dict"


@dataclasses.dataclass(frozen=True)
class Settings:
    """RecBole's Config, and for each dotted key where its value came from."""

    config: Config
    origins: dict[str, str]


def load_settings(
    model: str | None = None,
    dataset: str | None = None,
    config_files: str | Sequence[str | Path] = (),
    config_dict: Mapping[str, Any] | None = None,
    command_line: Mapping[str, Any] | None = None,
    layers: Sequence[Layer] = (),
) -> Settings:
    """The settings of one run. No argument is changed; `sys.argv` is not read.

    `model` and `dataset` may stand in a config file, the dict or the command line instead. `command_line` is what
    `parse_command_line` returns; run options in it (resume, help ...) are left alone, but those of predicting are not
    settings. `layers` rank between the config files and the dict.

    Raises:
        UserError: an unknown model, setting or metric, a value that is not allowed, an unreadable config file, or
            settings that contradict each other.
    """
    user = _user_layers(config_files, layers, config_dict or {}, command_line or {})
    model, dataset = _name("model", model, user), _name("dataset", dataset, user)
    require_model(model)
    schema = schema_of(model, dataset)
    stack = Stack()
    for layer in base_layers(model, dataset):
        stack.lay(layer)
    for layer in user:
        stack.lay(Layer(layer.origin, checked(layer, schema, model)))
    _load_required_columns(stack)
    check_columns(stack)
    fit_negative_sampling_to_loss(stack, {key for layer in user for key in layer.values})
    check_evaluation(stack)
    asked = (command_line or {}).get("gpu_id")
    if stack.values["use_gpu"] is False and asked:
        raise UserError(f"gpu_id = {asked} (command line): use_gpu = False asks for the CPU; say --use_gpu=True too")
    config = _build(model, dataset, stack.values)
    check_built(config, stack)
    _honour_data_path(config, stack, {key for layer in user for key in layer.values})
    return Settings(config, stack.origins)


def _user_layers(
    config_files: str | Sequence, others: Sequence[Layer], config_dict: Mapping, command_line: Mapping
) -> list[Layer]:
    """The user's layers, the weakest first."""
    files = config_files or command_line.get("config_files") or ()
    layers = [read_user_file(file) for file in (files.split() if isinstance(files, str) else files)]
    layers += others
    given = {key: typed(value) if isinstance(value, str) else value for key, value in config_dict.items()}
    layers.append(Layer(CONFIG_DICT, copy.deepcopy(given)))
    options = {key for key in run_options() if key not in (*NAMES, *PREDICTION)}
    spoken = {key: value for key, value in command_line.items() if key not in options}
    layers.append(Layer(COMMAND_LINE, copy.deepcopy(spoken)))
    return layers


def _name(key: str, argument: str | None, user: list[Layer]) -> str:
    """The model's or data set's name: from the command line, else the argument, else the dict and the files."""
    *others, command_line = [layer.values.get(key) for layer in user]
    for name in (command_line, argument, *reversed(others)):
        if name is not None:
            return str(name)
    example = {"model": "AWRSR", "dataset": "ml-100k"}[key]
    raise UserError(f"no {key} is given: say --{key}={example}, for example (--help lists them)")


def _load_required_columns(stack: Stack) -> None:
    """Have RecBole read the columns of users, items and time even where `load_col` does not name them."""
    columns = (stack.values.get("load_col") or {}).get("inter")
    if not isinstance(columns, list) or "*" in columns:
        return
    fields = ["USER_ID_FIELD", "ITEM_ID_FIELD"] + ["TIME_FIELD"] * (stack.values["time_order"] != "file")
    missing = [stack.values[field] for field in fields if stack.values[field] not in columns]
    if missing:
        origin = f"{stack.origins['load_col.inter']}; {', '.join(missing)} added, always read"
        stack.lay(Layer(origin, {"load_col": {"inter": columns + missing}}))


class _TypedConfig(Config):
    """RecBole's Config for values that are typed already: it would pass every string through eval."""

    def _convert_config_dict(self, config_dict: dict) -> dict:
        return config_dict

    def _load_cmd_line(self) -> dict:
        return {}


def _build(model: str, dataset: str, values: dict[str, Any]) -> Config:
    given = copy.deepcopy(values)
    on_cpu = {"gpu_id": ""} if values["use_gpu"] is False else {}  # RecBole 1.2.1 asks gpu_id alone
    try:
        config = _TypedConfig(model=model, dataset=dataset, config_dict={**given, **on_cpu})
    except (ValueError, TypeError, RuntimeError, NotImplementedError, KeyError) as error:
        raise UserError(f"RecBole refuses these settings: {' '.join(str(error).split())}") from error
    config.external_config_dict.update({key: given[key] for key in on_cpu})  # what a resumed run is given
    config.__class__ = Config  # so that checkpoints hold RecBole's own class
    return config


def _honour_data_path(config: Config, stack: Stack, given: set[str]) -> None:
    """RecBole reads ml-100k from its own package whatever `data_path` says; a copy that lies there is meant.

    Where the package's is read, no `data_path` stays among the settings a resumed run is given: it would find a copy
    that has come to lie there, which this run does not read.
    """
    stack.origins["data_path"] += f", with {config['dataset']} appended"
    if config["dataset"] != "ml-100k":
        return
    own = os.path.join(stack.values["data_path"], config["dataset"])
    if "data_path" in given and os.path.isdir(own):
        config["data_path"] = own
    else:
        config["data_path"] = str(RECBOLE / "dataset_example" / config["dataset"])
        config.external_config_dict.pop("data_path", None)
        stack.origins["data_path"] = "recbole, which ships ml-100k"
