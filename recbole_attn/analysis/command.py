"""The analysis as one command: checkpoints → findings → page."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_attn.analysis.ablation import NAME
from recbole_attn.analysis.findings import Findings, find
from recbole_attn.analysis.page import write_page
from recbole_attn.analysis.page.content import overall
from recbole_attn.analysis.trained import Row, expand, read_rows
from recbole_attn.compare.report.figures import available
from recbole_attn.config.command_line import run_options
from recbole_attn.errors import UserError
from recbole_attn.memory import keep_freed_memory

ALLOWED = ("analyze", "baseline", "users", "max_users", "name", "results", "data_path")
_CONTROLS = ("AttnSASRec", "AttnBERT4Rec", "SASRec")


def analyze(options: Mapping[str, Any]) -> str:
    """Look into the checkpoints that were asked for and write the report. Returns what to print.

    Raises:
        UserError: a mistake in what was asked for; matplotlib is missing.
    """
    surplus = sorted(set(options) - set(ALLOWED))
    if surplus:
        raise UserError(f"{surplus[0]}: has no effect on --analyze, which takes all settings from the checkpoint")
    if not available():
        raise UserError("analyze: its figures need matplotlib; pip install matplotlib")
    keep_freed_memory()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")  # none that a user could mend
    _show_progress()
    rows, control = _rows(options)
    users = [user.strip() for user in str(options.get("users") or "").split(",") if user.strip()]
    results = Path(_option(options, "results"))
    found = find(rows, control, users, _option(options, "max_users"), results / NAME)
    file = write_page(found, results / _folder(options, found))
    return "\n".join(["", *overall(found), "", f"report  {file}", f"arrays  {file.parent}"])


def _show_progress() -> None:
    """Say on stderr which model is looked into; what RecBole logs of the data does not matter here."""
    logger = logging.getLogger("recbole_attn.analysis")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [logging.StreamHandler()]


def _option(options: Mapping[str, Any], name: str) -> Any:
    """What was asked for, else the default of properties/run.yaml."""
    return options.get(name, run_options()[name].default)


def _rows(options: Mapping[str, Any]) -> tuple[list[Row], str | None]:
    """What to look into, the control first, and the control's name."""
    paths, baseline = expand(options["analyze"], "analyze"), options.get("baseline")
    if not baseline or not _is_file(baseline):
        rows = read_rows(paths, options.get("data_path"))
        return _control_first(rows, _named(rows, baseline))
    controls = expand(baseline, "baseline")
    rows = read_rows([*controls, *(path for path in paths if path not in controls)], options.get("data_path"))
    among = [row.name for row in rows if any(trained.path in controls for trained in row.seeds)]
    if len(among) > 1:
        raise UserError(f"baseline = {baseline}: holds {', '.join(among)}; give the checkpoints of one model")
    return rows, among[0]


def _is_file(baseline: str) -> bool:
    return os.sep in baseline or baseline.endswith(".pth")


def _named(rows: Sequence[Row], baseline: str | None) -> str | None:
    """The row that is asked for; else that of a model with softmax attention, if there is one."""
    names = [row.name for row in rows]
    if baseline is None:
        return next((name for name in names if name in _CONTROLS), None) if len(names) > 1 else None
    if baseline not in names:
        raise UserError(
            f"baseline = {baseline}: no checkpoint, and no model of those looked into; they are {', '.join(names)}"
        )
    return baseline


def _control_first(rows: list[Row], control: str | None) -> tuple[list[Row], str | None]:
    return sorted(rows, key=lambda row: row.name != control), control


def _folder(options: Mapping[str, Any], found: Findings) -> str:
    name = str(options.get("name") or f"inside-{found.dataset}")
    if name in (".", "..") or Path(name).name != name:
        raise UserError(f"name = {name}: must be the plain name of a folder")
    return name
