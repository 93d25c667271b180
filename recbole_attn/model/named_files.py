"""Settings that name a file or a folder, in whose content numbers have their cause."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_attn.model.semantic_settings import SOURCES

_FILES = (
    *("semantic_ids", "item_vectors"),
    *("pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path"),  # of RecBole's models
)
_FOLDERS = ("sentence_model",)  # which is a name on Hugging Face otherwise


def named_files(settings: Mapping[str, Any]) -> dict[str, Path]:
    """Setting → absolute path of what it names, where that exists. A source of vectors is none, whatever lies there."""
    named = {name: settings.get(name) for name in (*_FILES, *_FOLDERS)}
    texts = {name: value for name, value in named.items() if isinstance(value, str) and value not in SOURCES}
    paths = {name: Path(value).absolute() for name, value in texts.items()}
    return {name: path for name, path in paths.items() if (path.is_dir if name in _FOLDERS else path.is_file)()}
