"""Does training on whole sequences in one pass reach the validation NDCG@10 of training on prefixes, 97 % of it?

    python benchmarks/gate.py benchmarks/results/one_pass-amazon-beauty/results.csv

Reads the results of comparisons: of each model that has one row of either kind, means over the seeds of the best
validation NDCG@10, and the minutes until an epoch first reached 97 % of the prefixes' mean. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

METRIC = "ndcg@10"
ENOUGH = 0.97


class Trial(NamedTuple):
    """One training: its best validation, and how long its epochs took to get where."""

    valid: float
    history: list[dict]


def read(file: Path) -> dict[tuple[str, str], dict[str, list[Trial]]]:
    """Trials by (data set, model), and then by row."""
    found: dict[tuple[str, str], dict[str, list[Trial]]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            if line["metric"] == METRIC and line["status"] == "done":
                result = json.loads((file.parent / line["folder"] / "result.json").read_text(encoding="utf-8"))
                rows = found.setdefault((line["dataset"], line["model"]), {})
                rows.setdefault(line["row"], []).append(Trial(float(line["validation"]), result["history"]))
    return found


def verdicts(file: Path) -> Iterator[str]:
    """A line of the table for each model with one row on prefixes and one in one pass."""
    for (dataset, model), rows in read(file).items():
        passes = [trials for row, trials in rows.items() if "one pass" in row]
        prefixes = [trials for row, trials in rows.items() if "one pass" not in row]
        if len(passes) == len(prefixes) == 1:
            yield _line(dataset, model, prefixes[0], passes[0])


def _line(dataset: str, model: str, prefixes: list[Trial], passes: list[Trial]) -> str:
    means = [statistics.fmean(trial.valid for trial in trials) for trials in (prefixes, passes)]
    goal = ENOUGH * means[0]
    cells = [dataset, model, *(_spread(trials) for trials in (prefixes, passes)), f"{means[1] / means[0]:.1%}"]
    cells += [_minutes(trials, goal) for trials in (prefixes, passes)]
    return f"| {' | '.join(cells)} | {'reached' if means[1] >= goal else '**not reached**'} |"


def _spread(trials: list[Trial]) -> str:
    values = [trial.valid for trial in trials]
    return f"{statistics.fmean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def _minutes(trials: list[Trial], goal: float) -> str:
    """Mean minutes until the goal over the trials that reached it, and how many did."""
    found = []
    for trial in trials:
        passed = 0.0
        for epoch in trial.history:
            passed += epoch["train_seconds"] + epoch["valid_seconds"]
            if epoch["valid_result"][METRIC] >= goal:
                found.append(passed / 60)
                break
    return f"{statistics.fmean(found):.1f} ({len(found)} of {len(trials)})" if found else f"never (0 of {len(trials)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="results.csv of comparisons")
    files = parser.parse_args().results
    for file in files:
        if not file.is_file():
            parser.error(f"results = {file}: no such file; a comparison writes it when all its trials are there")
    found = [line for file in files for line in verdicts(file)]
    if not found:
        parser.error(f"results = {' '.join(map(str, files))}: no model has a row on prefixes and one in one pass")
    print("| data set | model | prefixes | one pass | of it | minutes to 97 %: prefixes | one pass | 97 % |")
    print("|---" * 8 + "|\n" + "\n".join(found))


if __name__ == "__main__":
    main()
