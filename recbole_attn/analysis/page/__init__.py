"""The report: one HTML page, and the figures and arrays it was made of."""

from __future__ import annotations

from pathlib import Path

from recbole_attn.analysis.findings import Findings, save
from recbole_attn.analysis.page.content import page
from recbole_attn.compare.report.blocks import Figure
from recbole_attn.compare.report.html import to_html
from recbole_attn.compare.store import write_atomically
from recbole_attn.errors import UserError

PAGE = "inside.html"


def write_page(found: Findings, folder: Path) -> Path:
    """Write the page, `figures/*.svg` and the arrays; returns the path of the page.

    Raises:
        UserError: the folder cannot be written to.
    """
    parts = page(found)
    figures = {block.file: block.standalone for part in parts for block in part.blocks if isinstance(block, Figure)}
    names = ", ".join(row.name for row in found.rows)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        save(found, folder)
        for name, text in figures.items():
            write_atomically(folder / name, text)
        write_atomically(folder / PAGE, to_html(f"Inside {names} on {found.dataset}", parts))
    except OSError as error:
        raise UserError(f"the report cannot be written to {folder}: {error.strerror}") from error
    return folder / PAGE
