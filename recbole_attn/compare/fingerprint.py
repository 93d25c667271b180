"""A hash of all that a trial's numbers depend on: its settings, the modules it runs through, and its data."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recbole_attn.errors import UserError
from recbole_attn.model import MODELS
from recbole_attn.model.named_files import named_files

PACKAGE = Path(__file__).resolve().parents[1]
# What every trial runs through. The table of models is not among them: a new model changes no other's numbers.
COMMON = (
    *("data/*.py", "trainer.py", "resume.py", "progress.py", "run.py", "protocol.py", "remedies.py"),
    *("streaming.py", "ranking.py", "acceleration.py", "compiling.py", "dropout.py", "checkpoint.py"),
    *("compare/trial.py", "compare/ranks.py", "compare/distributed.py"),
)
# Settings that say where and how a trial runs, not what it computes.
WITHOUT_EFFECT = {
    *("checkpoint_dir", "data_path", "show_progress", "state", "gpu_id", "use_gpu", "verbose"),
    *("log_wandb", "wandb_project", "save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"),
    *("ip", "port", "offset", "local_rank", "model", "dataset"),
}


def fingerprint(model: str, settings: Mapping[str, Any], data_path: Path) -> str:
    """Sixteen hexadecimal digits. `settings` are the final ones, those of the model included.

    Raises:
        UserError: there are no files of the data set.
    """
    kept = {key: value for key, value in settings.items() if key not in WITHOUT_EFFECT}
    parts = {
        "model": model,
        "settings": kept,
        "code": code_digest(model),
        "data": data_digest(data_path),
        "recbole": importlib.metadata.version("recbole"),
    }
    read = {key: content_digest(path) for key, path in named_files(kept).items()}
    if read:
        parts["files"] = read
    return _digest(json.dumps(parts, sort_keys=True, default=str).encode())[:16]


@functools.cache
def content_digest(path: Path) -> str:
    """Hash of a file, with the item ids beside vectors in .npy; of a folder, the files in it."""
    if path.is_dir():
        return _together(path, [file for file in path.rglob("*") if file.is_file()])
    ids = path.with_suffix(".ids")
    return _together(path.parent, [path, ids]) if path.suffix == ".npy" and ids.is_file() else _file_digest(path)


@functools.cache
def code_digest(model: str) -> str:
    """Hash of the modules that affect the numbers of `model`, comments and docstrings aside."""
    files = {file for pattern in COMMON for file in PACKAGE.glob(pattern)}
    if model in MODELS:
        files |= _imported(_file_of(MODELS[model]))
    return _digest("\n".join(f"{file.name}\n{_statements(file)}" for file in sorted(files)).encode())


def _imported(file: Path) -> set[Path]:
    """`file` and every module of this package that it imports, directly or not."""
    seen: set[Path] = set()
    waiting = {file}
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= {source for module, name in _imports(file) if (source := _source(module, name))} - seen
    return seen


def _imports(file: Path) -> list[tuple[str, str]]:
    """(module, name) of what a file imports from this package."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [(node.module, alias.name) for node in nodes if _is_ours(node.module) for alias in node.names if node.module]


def _is_ours(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == "recbole_attn"


def _source(module: str, name: str) -> Path | None:
    """The file that defines `name`. A package is looked through: its other modules are not what is imported."""
    if _file_of(module).is_file():
        return _file_of(module)
    if _file_of(f"{module}.{name}").is_file():
        return _file_of(f"{module}.{name}")
    table = _file_of(f"{module}.__init__")
    inside = [_source(other, found) for other, found in _imports(table) if found == name] if table.is_file() else []
    return inside[0] if inside else None


def _file_of(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def _statements(file: Path) -> str:
    """A module's code as Python writes it: no comments, no docstrings, no layout."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def data_digest(data_path: Path) -> str:
    """Hash of the atomic files in the folder of a data set.

    Raises:
        UserError: there are none.
    """
    files = sorted(file for file in data_path.glob(f"{data_path.name}.*") if file.is_file())
    if not any(file.suffix == ".inter" for file in files):
        raise UserError(f"dataset={data_path.name}: no such data set; its files belong in {data_path}")
    return _together(data_path, files)


def _together(folder: Path, files: Iterable[Path]) -> str:
    """Hash of several files of a folder."""
    lines = [f"{file.relative_to(folder)} {_file_digest(file)}" for file in sorted(files)]
    return _digest("\n".join(lines).encode())


def _file_digest(file: Path) -> str:
    state = hashlib.sha256()
    with file.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            state.update(block)
    return state.hexdigest()


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
