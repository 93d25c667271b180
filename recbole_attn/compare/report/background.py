"""Under what conditions the numbers came about: protocol, differences between rows, data, machine."""

from __future__ import annotations

import json
from typing import Any

from recbole_attn.compare.outcome import Line, Outcome, Table
from recbole_attn.compare.report.blocks import Cell, Grid, Section, Text, cells


def background(outcome: Outcome) -> list[Section]:
    """The sections at the end of a report."""
    tables = [table for table in outcome.tables if table.finished]
    return [
        Section(
            "Protocol",
            [
                Text("Command:", [outcome.plan.command]),
                *(block for table in outcome.tables for block in _protocol(outcome, table)),
            ],
        ),
        Section("Data", [_data(tables)] if tables else []),
        Section("Machine and versions", [_machines(tables)] if tables else []),
        Section("Rows", [_rows(tables)] if tables else []),
    ]


def _protocol(outcome: Outcome, table: Table) -> list[Text | Grid]:
    shared = [f"{name}: {_shown(value)}" for name, value in table.protocol.items() if value is not None]
    shared.append(f"seeds: {outcome.plan.seeds}, from the setting `seed` upwards")
    shared.append("seen items stay among the candidates, in every row")
    blocks: list[Text | Grid] = [Text(f"Shared by every row on {table.dataset}:", shared)]
    compared, differing = _compared(table)
    if compared:
        blocks.append(Text("Also the same in every row:", compared))
    if differing:
        blocks.append(differing)
    return blocks


def _compared(table: Table) -> tuple[list[str], Grid | None]:
    """Settings that agree in all rows that have them, and a table of the others."""
    values = {line.name: line.results[0]["compared"] for line in table.finished}
    differing = table.differing
    agreeing = dict.fromkeys(name for row in values.values() for name in row if name not in differing)
    same = [f"{name}: {_shown(next(row[name] for row in values.values() if name in row))}" for name in agreeing]
    if not differing:
        return same, None
    rows = [
        cells(row, *(_shown(found[name]) if name in found else "–" for name in differing))
        for row, found in values.items()
    ]
    return same, Grid(["row", *differing], rows, "Settings that differ between rows.")


def _data(tables: list[Table]) -> Grid:
    results = {table.dataset: table.finished[0].results[0] for table in tables}
    rows = [cells(name, *result["data"].values(), result["data_digest"][:16]) for name, result in results.items()]
    head = ["data set", *next(iter(results.values()))["data"], "fingerprint"]
    return Grid(head, rows, "As the first row saw it. Fingerprint: start of the SHA-256 of its files.")


def _machines(tables: list[Table]) -> Grid:
    """One column for each different machine; usually one."""
    machines: dict[str, dict[str, Any]] = {}
    users: dict[str, list[str]] = {}
    for line in (line for table in tables for line in table.finished):
        for result in line.results:
            key = json.dumps(result["machine"], sort_keys=True)
            machines[key] = result["machine"]
            users.setdefault(key, []).append(line.name)
    names = list(dict.fromkeys(name for machine in machines.values() for name in machine))
    rows = [cells(name, *(str(machine.get(name, "–")) for machine in machines.values())) for name in names]
    rows.append(cells("rows", *(", ".join(dict.fromkeys(there)) for there in users.values())))
    return Grid(["", *(f"machine {number}" for number in range(1, len(machines) + 1))], rows)


def _rows(tables: list[Table]) -> Grid:
    rows = [_row(table.dataset, line) for table in tables for line in table.finished]
    head = ["row", "model", "data", "settings above the property files", "ties", "folders"]
    note = "Ties: share of targets with the score of another item. All settings are in each folder's result.json."
    return Grid(head, rows, note)


def _row(dataset: str, line: Line) -> list[Cell]:
    ties = line.average("tie_share")
    folders = ", ".join(result["key"] for result in line.results)
    return cells(line.name, line.model, dataset, _own_settings(line), Cell(f"{ties:.2%}", ties), folders)


def _own_settings(line: Line) -> str:
    hidden = {"data_path", "seed"}
    settings = {key: value for key, value in line.results[0]["settings"].items() if key not in hidden}
    return ", ".join(f"{key}={_shown(value)}" for key, value in settings.items()) or "–"


def _shown(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else str(value)
