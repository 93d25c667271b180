"""The report as one HTML file: no network, light and dark, sortable tables, readable on a phone and in print."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from recbole_attn.compare.report.blocks import Cell, Figure, Grid, Section, Text
from recbole_attn.compare.report.figures import FAINT, INK, SERIES

_HERE = Path(__file__).parent
_COLUMN = 26  # rem, of report.css


def to_html(title: str, sections: Sequence[Section]) -> str:
    style = (_HERE / "report.css").read_text(encoding="utf-8").replace("/* colours */", _colours())
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{_anchor(section)}">{escape(section.title)}</a>' for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n<nav>{links}</nav>\n"
        + "\n".join(_section(section) for section in sections)
        + f"\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _colours() -> str:
    """The custom properties of both grounds."""
    names = [("--ink", INK), ("--faint", FAINT), *((f"--series-{number}", pair) for number, pair in enumerate(SERIES))]
    light, dark = ("".join(f"{name}: {pair[ground]}; " for name, pair in names) for ground in (0, 1))
    return f":root {{ {light}}}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}"


def _anchor(section: Section) -> str:
    return re.sub(r"\W+", "-", section.title.lower()).strip("-")


def _section(section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    if all(isinstance(block, Figure) for block in section.blocks):
        blocks = f'<div class="figures">\n{blocks}\n</div>'
    return f'<section id="{_anchor(section)}">\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Grid | Text | Figure) -> str:
    if isinstance(block, Grid):
        return _grid(block)
    if isinstance(block, Figure):
        caption = f"<strong>{escape(block.title)}.</strong> {escape(block.note)}"
        if not block.width:
            return f"<figure>\n{block.inline}\n<figcaption>{caption}</figcaption>\n</figure>"
        kind = ' class="wide"' if block.width > _COLUMN else ""
        drawing = f'<div class="scroll" style="--width: {block.width:.1f}rem">\n{block.inline}\n</div>'
        return f"<figure{kind}>\n{drawing}\n<figcaption>{caption}</figcaption>\n</figure>"
    items = "".join(f"<li>{escape(item)}</li>" for item in block.items)
    kind = ' class="warning"' if block.warning else ""
    return f"<div{kind}><p>{escape(block.text)}</p>" + (f"<ul>{items}</ul>" if items else "") + "</div>"


def _grid(grid: Grid) -> str:
    numeric = [any(row[column].value is not None for row in grid.rows) for column in range(len(grid.head))]
    head = "".join(
        f'<th scope="col" aria-sort="none"{_kind(number)}><button type="button">{escape(name)}</button></th>'
        for name, number in zip(grid.head, numeric)
    )
    rows = "\n".join("<tr>" + "".join(map(_cell, row, numeric)) + "</tr>" for row in grid.rows)
    note = f'<p class="note">{escape(grid.note)}</p>' if grid.note else ""
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>{note}'
    )


def _kind(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _cell(cell: Cell, numeric: bool) -> str:
    text = escape(cell.text)
    text = f"<strong>{text}</strong>" if cell.best else text
    mark = f"<sup>{escape(cell.mark)}</sup>" if cell.mark else ""
    value = f' data-value="{cell.value!r}"' if cell.value is not None else ""
    return f"<td{_kind(numeric)}{value}>{text}{mark}</td>"
