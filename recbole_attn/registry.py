"""Makes RecBole's own entry points know our models, their property files and their data set class.

RecBole finds a model as the module `recbole.model.<kind>.<lower-case name>`, its defaults in a file of its own
package, and its data set class as an attribute `<name>Dataset`. Each of the three gets an entry here; nothing of
RecBole's own models is touched.
"""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path

import recbole.data.dataset
import recbole.model
from recbole.config import Config

from recbole_attn.model import MODELS

_OURS = "_reads_recbole_attn"


def properties_dir() -> Path:
    """The folder of property files: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "properties", package.parent / "properties"):
        if (candidate / "overall.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"recbole_attn is installed without its property files: neither in nor beside {package}")


def model_properties(name: str) -> Path:
    """The property file of one of our models."""
    return properties_dir() / "model" / f"{name}.yaml"


def register() -> None:
    """Register every model of the table. Safe to call again.

    Raises:
        RuntimeError: RecBole, or another plugin, already has a model of that name.
    """
    from recbole_attn.data import PrefixDataset

    for name, path in MODELS.items():
        module = importlib.import_module(path)
        alias = f"recbole.model.sequential_recommender.{name.lower()}"
        if sys.modules.get(alias) is module:
            continue
        if _recbole_has(name):
            raise RuntimeError(f"RecBole already has a model named {name}; rename ours in recbole_attn.model.MODELS")
        sys.modules[alias] = module
        setattr(recbole.data.dataset, f"{name}Dataset", PrefixDataset)
    _read_our_property_files()


def _recbole_has(name: str) -> bool:
    """By file name: importing the packages would fail on optional libraries, lightgbm for one."""
    return any(Path(recbole.model.__path__[0]).glob(f"*_recommender/{name.lower()}.py"))


def _read_our_property_files() -> None:
    """Read a model's file where RecBole reads its own: after overall.yaml, below data set and user."""
    original = Config._update_internal_config_dict
    if hasattr(original, _OURS):
        return

    @functools.wraps(original)
    def update(self, file):
        values = original(self, file)
        if Path(file).name == "overall.yaml" and self.model in MODELS:
            original(self, model_properties(self.model))
        return values

    setattr(update, _OURS, True)
    Config._update_internal_config_dict = update
