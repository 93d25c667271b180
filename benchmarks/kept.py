"""Runs of a study that are kept in its result file, with the settings that they were made with."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ABSENT = "nothing"


def settings_of(args: argparse.Namespace, free: set[str], **others: Any) -> dict[str, Any]:
    """What all runs of a study share: arguments, and what else they depend on.

    Args:
        free: arguments that choose runs, or that do not matter to one.
    """
    return {**{name: value for name, value in vars(args).items() if name not in free}, **others}


def earlier(file: Path, settings: dict[str, Any], rows: dict[str, Any]) -> dict[str, Any]:
    """The runs that `file` has.

    Args:
        settings: from `settings_of`.
        rows: what each row of the study is; the file may know others.

    Raises:
        SystemExit: they were made with other settings, or a row of that name was another one.
    """
    if not file.is_file():
        return {}
    record = json.loads(file.read_text(encoding="utf-8"))
    before, now = record["settings"], _stored(settings)
    for name in sorted(before.keys() | now.keys()):
        _same(file, name, before.get(name, ABSENT), now.get(name, ABSENT))
    rows_before, rows_now = record.get("rows", {}), _stored(rows)
    for name in rows_before.keys() & rows_now.keys():
        _same(file, name, rows_before[name], rows_now[name])
    return record["runs"]


def save(file: Path, runs: dict[str, Any], settings: dict[str, Any], rows: dict[str, Any]) -> None:
    """Write the runs, and what they were made with, to be read by `earlier`."""
    known = json.loads(file.read_text(encoding="utf-8")).get("rows", {}) if file.is_file() else {}
    file.parent.mkdir(exist_ok=True)
    record = {"settings": settings, "rows": {**known, **rows}, "runs": runs}
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def keeping(file: Path, settings: dict) -> Callable:
    """A function of a key and of what makes its value, which keeps the value in `file` and makes none twice.

    What is kept are times, which belong to this code, this torch and this processor.

    Args:
        settings: as for `earlier`, which may refuse.
    """
    settings = {**settings, **_measured_here()}
    kept = earlier(file, settings, {})

    def keep(key: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        if key not in kept:
            kept[key] = make()
            save(file, kept, settings, {})
        return kept[key]

    return keep


def _measured_here() -> dict[str, str]:
    from recbole_attn.compare.machine import processor

    package, digest = Path(__file__).parent.parent / "recbole_attn", hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.read_bytes())
    return {"code": digest.hexdigest()[:12], "torch": version("torch"), "processor": processor()}


def _stored(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives them back: tuples are lists."""
    return json.loads(json.dumps(values))


def _same(file: Path, name: str, before: Any, now: Any) -> None:
    if before != now:
        raise SystemExit(f"{file} holds runs with {name}={before}, not {now}; choose another --name")
