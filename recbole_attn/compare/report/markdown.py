"""The report in Markdown, as GitHub reads it."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_attn.compare.report.blocks import Cell, Figure, Grid, Section, Text


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}", *(_block(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Grid | Text | Figure) -> str:
    if isinstance(block, Grid):
        return _grid(block)
    if isinstance(block, Figure):
        return f"![{block.title}]({block.file})\n\n{block.note}"
    items = "\n".join(f"- {item}" for item in block.items)
    return f"{block.text}\n\n{items}" if items else block.text


def _grid(grid: Grid) -> str:
    lines = [
        "| " + " | ".join(grid.head) + " |",
        "|" + "---|" * len(grid.head),
        *("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in grid.rows),
    ]
    return "\n".join(lines) + (f"\n\n{grid.note}" if grid.note else "")


def _cell(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    return (f"**{text}**" if cell.best else text) + cell.mark.replace("*", "\\*")
