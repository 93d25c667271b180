"""The numbers for other programs: results.csv, and table.tex for a paper."""

from __future__ import annotations

import csv
import io

from recbole_attn.compare.outcome import Line, Outcome, Table, status
from recbole_attn.compare.report.content import metric_name, score, stars
from recbole_attn.compare.report.warnings import remaining

_COLUMNS = (
    *("dataset", "row", "model", "seed", "status", "metric", "validation", "test"),
    *("best_epoch", "epochs", "stop_reason", "parameters", "seconds_per_epoch", "seconds", "peak_memory", "folder"),
)
_COST = ("epochs", "stop_reason", "parameters", "seconds_per_epoch", "seconds", "peak_memory")
_SPECIAL = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
}


def csv_text(outcome: Outcome) -> str:
    """One line for each trial and metric; test values unrounded, epochs counted from 1."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in outcome.tables:
        for line in table.lines:
            writer.writerows(_records(table, line))
    return file.getvalue()


def _records(table: Table, line: Line) -> list[dict]:
    common = {"dataset": table.dataset, "row": line.name, "model": line.model}
    records = [{**common, "seed": seed, "status": status(reason)} for seed, reason in line.failures]
    for number, result in enumerate(line.results):
        cost = {name: result[name] for name in _COST}
        epoch = {"best_epoch": result["best_epoch"] + 1, "folder": result["key"], "status": "done"}
        for metric in table.metrics:
            values = {"metric": metric, "validation": result["valid"].get(metric), "test": line.scores[metric][number]}
            records.append({**common, "seed": result["seed"], **epoch, **cost, **values})
    return records


def latex(outcome: Outcome) -> str:
    """One tabular for each data set; needs the package booktabs."""
    return "\n".join(_tabular(outcome, table) for table in outcome.tables)


def _tabular(outcome: Outcome, table: Table) -> str:
    head = " & ".join(["", *(escape(metric_name(metric)) for metric in table.headline)])
    rows = [
        " & ".join([escape(line.name), *(_cell(line, table, metric) for metric in table.headline)])
        for line in table.lines
    ]
    note = escape(_note(outcome, table))
    return "\n".join(
        [
            r"\begin{tabular}{l" + "c" * len(table.headline) + "}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            rf"\multicolumn{{{len(table.headline) + 1}}}{{p{{.9\linewidth}}}}{{\footnotesize {note}}} \\",
            r"\end{tabular}",
            "",
        ]
    )


def _note(outcome: Outcome, table: Table) -> str:
    spread = f"{table.dataset}: mean and standard deviation over {outcome.plan.seeds} seed(s){_fewer(table)}."
    return " ".join([spread, stars(table), *remaining(table)])


def _fewer(table: Table) -> str:
    """The rows that lack seeds."""
    rows = [f"{line.name} over {len(line.results)}" for line in table.lines if line.failures]
    return f", but {', '.join(rows)}" if rows else ""


def _cell(line: Line, table: Table, metric: str) -> str:
    cell = score(line, table, metric)
    if cell.value is None:
        return cell.text
    mean, _, sd = cell.text.partition(" ± ")
    mean = rf"\mathbf{{{mean}}}" if cell.best else mean
    return f"${mean}" + (rf" \pm {sd}" if sd else "") + (f"^{{{_mark(cell.mark)}}}" if cell.mark else "") + "$"


def _mark(mark: str) -> str:
    return mark.replace("↓", r"\downarrow ")


def escape(text: str) -> str:
    """`text` as LaTeX prints it."""
    return "".join(_SPECIAL.get(char, char) for char in text)
