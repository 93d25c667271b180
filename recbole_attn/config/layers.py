"""Layers of settings: the property files of RecBole and ours, the user's files, and how one is laid over another."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from recbole.config import Config
from recbole.utils import argument_list, get_model

from recbole_attn.config import schema
from recbole_attn.config.names import RECBOLE, read_values, recbole_models
from recbole_attn.errors import UserError
from recbole_attn.registry import properties_dir

_REPLACED_AS_A_WHOLE = {"eval_args.split"}  # exactly one way of splitting may stand
_SHORT_FOR_BOTH = {"eval_args.mode": ("valid", "test")}  # a plain value means the same for each


class Layer(NamedTuple):
    """Nested values and where they come from."""

    origin: str
    values: dict[str, Any]


class Stack:
    """Layers laid one over another: the values on top, and for each dotted key the origin of its value."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}

    def lay(self, layer: Layer) -> None:
        """Put `layer` on top; mappings are merged key by key."""
        self._merge(self.values, layer.values, layer.origin, "")

    def set(self, key: str, value: Any, origin: str) -> None:
        """Put one top-level value on top."""
        self._replace(self.values, key, value, origin, key)

    def _merge(self, below: dict, above: Mapping, origin: str, prefix: str) -> None:
        for key, value in above.items():
            dotted = f"{prefix}{key}"
            if isinstance(value, dict) and isinstance(below.get(key), str) and dotted in _SHORT_FOR_BOTH:
                each = dict.fromkeys(_SHORT_FOR_BOTH[dotted], below[key])
                self._replace(below, key, each, self.origins[dotted], dotted)
            mergeable = isinstance(value, dict) and isinstance(below.get(key), dict)
            if mergeable and dotted not in _REPLACED_AS_A_WHOLE:
                self._merge(below[key], value, origin, f"{dotted}.")
            else:
                self._replace(below, key, value, origin, dotted)

    def _replace(self, below: dict, key: str, value: Any, origin: str, dotted: str) -> None:
        for old in [old for old in self.origins if old == dotted or old.startswith(f"{dotted}.")]:
            del self.origins[old]
        below[key] = copy.deepcopy(value)
        self.origins.update(dict.fromkeys(_leaves(value, dotted), origin))


def _leaves(value: Any, dotted: str) -> list[str]:
    if not isinstance(value, dict) or not value:
        return [dotted]
    return [leaf for key, nested in value.items() for leaf in _leaves(nested, f"{dotted}.{key}")]


def read_user_file(file: str | Path) -> Layer:
    """A config file of the user.

    Raises:
        UserError: it cannot be read, is not YAML, or is not a mapping with names as keys.
    """
    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=schema.Loader)
    except OSError as error:
        raise UserError(f"config file {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"config file {file}: not a text file in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UserError(f"config file {file}{line}: {problem}") from error
    if not isinstance(values or {}, dict):
        raise UserError(f"config file {file}, line 1: expected lines of the form `setting: value`")
    return Layer(str(file), values or {})


class _FileLister(Config):
    """Runs RecBole's own choice of property files for a model and a data set, and only notes them."""

    def __init__(self, model: str, dataset: str) -> None:
        self.parameters: dict[str, list[str]] = {"Dataset": []}
        self.files: list[Path] = []
        try:
            model_class = get_model(model)
        except ImportError as error:
            raise UserError(f"model {model} needs a package that is not installed: pip install {error.name}") from error
        self._load_internal_config_dict(model, model_class, dataset)

    def _update_internal_config_dict(self, file: str) -> dict:
        self.files.append(Path(file).resolve())
        return read_values(self.files[-1])


def recbole_files(model: str, dataset: str) -> list[Path]:
    """RecBole's property files for a model on a data set, a later one above an earlier."""
    return _FileLister(model, dataset).files


def our_files(model: str, dataset: str) -> list[Path]:
    """Our property files for a model on a data set, a later one above an earlier."""
    folder = properties_dir()
    files = [folder / "overall.yaml", folder / "dataset" / f"{dataset}.yaml", folder / "model" / f"{model}.yaml"]
    return [file for file in files if file.is_file()]


def base_layers(model: str, dataset: str) -> list[Layer]:
    """Everything below the user: RecBole's defaults, the protocol, the data set, the model."""
    theirs = [Layer(f"recbole {_short(file)}", read_values(file)) for file in recbole_files(model, dataset)]
    ours = [
        Layer(str(file.relative_to(properties_dir().parent)), read_values(file)) for file in our_files(model, dataset)
    ]
    return theirs + ours


def _short(file: Path) -> str:
    return str(file.relative_to(RECBOLE.resolve()))


def schema_of(model: str, dataset: str) -> schema.Schema:
    """Every setting known for a model on a data set."""
    settings: dict[str, schema.Setting] = {}
    for file in recbole_files(model, dataset):
        for key, setting in schema.read_lenient(file).items():
            settings[key] = _combine(settings.get(key), setting)
    arguments = argument_list.general_arguments + argument_list.training_arguments
    for key in arguments + argument_list.evaluation_arguments + argument_list.dataset_arguments:
        settings.setdefault(key, schema.Setting(key, (), "", None, RECBOLE, free=True))
    settings.pop("config_file", None)  # listed, but read by nothing: meant is config_files
    settings.update(_declared_for_recbole(model, known=set(settings)))
    for file in our_files(model, dataset):
        settings.update({key: setting for key, setting in schema.read(file).items() if setting.types})
    return schema.Schema(settings)


def _combine(below: schema.Setting | None, above: schema.Setting) -> schema.Setting:
    """RecBole repeats keys, some without a comment or with another default: what either file admits is right."""
    if below is None:
        return above
    best = above if above.meaning or not below.meaning else below
    return best._replace(types=tuple(dict.fromkeys(below.types + above.types)))


def _declared_for_recbole(model: str, known: set[str]) -> dict[str, schema.Setting]:
    """What properties/recbole.yaml says of `model`: its sections `shared` and of single models apart."""
    declared: dict[str, schema.Setting] = {}
    sections = {"shared", *recbole_models()}
    for key, setting in schema.read(properties_dir() / "recbole.yaml").items():
        section, _, rest = key.partition(".")
        if section not in sections:
            declared[key] = setting
        elif rest and (section == model or (section == "shared" and rest in known)):
            declared[rest] = setting._replace(key=rest)
    return declared
