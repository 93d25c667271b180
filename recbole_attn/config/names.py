"""Which models there are, ours and RecBole's, found without importing them."""

from __future__ import annotations

import functools
import re
from importlib import util
from pathlib import Path
from typing import Any

import yaml

from recbole_attn.config import schema
from recbole_attn.model import MODELS
from recbole_attn.registry import properties_dir

RECBOLE = Path(util.find_spec("recbole").origin).parent  # type: ignore[union-attr, arg-type]
KINDS = ("sequential", "general", "context_aware", "knowledge_aware", "exlib")


def read_values(file: Path) -> dict[str, Any]:
    """The values of a property file."""
    return yaml.load(file.read_text(encoding="utf-8"), Loader=schema.Loader) or {}


@functools.cache
def recbole_models() -> dict[str, str]:
    """RecBole's models, name → kind, from its folders: importing them all takes seconds."""
    return {
        match[1]: kind
        for kind in KINDS
        for file in sorted((RECBOLE / "model" / f"{kind}_recommender").glob("[a-z]*.py"))
        for match in re.finditer(r"^class (\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
        if match[1].lower() == file.stem
    }


def models() -> list[str]:
    """The names of all models, ours first."""
    return [*MODELS, *recbole_models()]


def models_with(key: str) -> list[str]:
    """The models that have the setting `key` of their own."""
    folders = (properties_dir() / "model", RECBOLE / "properties" / "model")
    files = {name: file for folder in folders for name in models() if (file := folder / f"{name}.yaml").is_file()}
    sections = read_values(properties_dir() / "recbole.yaml")
    return [name for name in files if key in read_values(files[name]) or key in sections.get(name, {})]
