"""The report: report.md, report.html, results.csv and table.tex, all from one `Outcome`."""

from __future__ import annotations

from pathlib import Path

from recbole_attn.compare.outcome import Outcome
from recbole_attn.compare.report.content import sections
from recbole_attn.compare.report.figures import draw
from recbole_attn.compare.report.html import to_html
from recbole_attn.compare.report.markdown import to_markdown
from recbole_attn.compare.report.sweeps import draw_sweeps
from recbole_attn.compare.report.tabular import csv_text, latex
from recbole_attn.errors import UserError
from recbole_attn.writing import write_atomically


def write_report(outcome: Outcome, folder: Path) -> list[Path]:
    """Write the four files, and the figures that report.md shows.

    Raises:
        UserError: the folder cannot be written to.
    """
    drawn = [*draw_sweeps(outcome), *draw(outcome)]
    parts = sections(outcome, drawn)
    title = f"Comparison: {outcome.plan.folder.name}"
    files = {
        "report.md": to_markdown(title, parts),
        "report.html": to_html(title, parts),
        "results.csv": csv_text(outcome),
        "table.tex": latex(outcome),
        **{figure.file: figure.standalone for figure in drawn},
    }
    try:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_atomically(folder / name, text)
    except OSError as error:
        raise UserError(f"the report cannot be written to {folder}: {error.strerror}") from error
    return [folder / name for name in files]
