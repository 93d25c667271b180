"""Runs of a study that are kept in its result file, with the settings that they were made with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def earlier(file: Path, args: argparse.Namespace, free: set[str]) -> dict[str, Any]:
    """The runs that `file` has.

    Args:
        free: arguments that choose runs, or that do not matter to one.

    Raises:
        SystemExit: they were made with other arguments.
    """
    if not file.is_file():
        return {}
    record = json.loads(file.read_text(encoding="utf-8"))
    for name, value in vars(args).items():
        if name not in free and record["settings"][name] != value:
            raise SystemExit(f"{file} holds runs with {name}={record['settings'][name]}; choose another --name")
    return record["runs"]


def save(file: Path, runs: dict[str, Any], args: argparse.Namespace, free: set[str]) -> None:
    settings = {name: value for name, value in vars(args).items() if name not in free}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"settings": settings, "runs": runs}, indent=1) + "\n", encoding="utf-8")
