"""Hold the committed rows of a comparison against another baseline than its report's.

    python benchmarks/against.py benchmarks/results/headline AttnSASRec

Reads the trials in the folder, whatever code made them, while a comparison given `--baseline` asks for trials of
today's code. Tests as its report does: paired by user, seeds averaged within the user, p-values corrected over all rows
and the metrics at 10. Writes `against-BASELINE.md` beside the report.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import pandas as pd

from recbole_attn.compare.ranks import Ranks
from recbole_attn.compare.statistics import by_user, compare_paired, holm
from recbole_attn.compare.store import RANKS, RESULT, read_json

METRICS = ("recall@10", "ndcg@10", "mrr@10")


def read(folder: Path) -> dict[str, list[Ranks]]:
    """Row -> what each of its seeds ranked.

    Raises:
        ValueError: a row has two trials of one seed, as the settings of a grid are.
    """
    found: dict[str, dict[int, Ranks]] = defaultdict(dict)
    for file in sorted(folder.glob(f"*/{RESULT}")):
        result = read_json(file) or {}
        if result["seed"] in found[result["row"]]:
            raise ValueError(
                f"{folder}: row {result['row']} has two trials of seed {result['seed']}; a grid's are not told apart"
            )
        found[result["row"]][result["seed"]] = Ranks.from_file(file.parent / RANKS)
    return {row: list(seeds.values()) for row, seeds in found.items()}


def users(seeds: list[Ranks], metric: str) -> pd.Series:
    return by_user([(ranks.user, ranks.metrics[metric]) for ranks in seeds])


def table(rows: dict[str, list[Ranks]], baseline: str) -> list[str]:
    """Lines of Markdown."""
    found = {
        (row, metric): compare_paired(users(seeds, metric), users(rows[baseline], metric))
        for row, seeds in sorted(rows.items())
        if row != baseline
        for metric in METRICS
    }
    corrected = holm({key: each.p for key, each in found.items()})
    lines = [
        "| row | seeds | metric | difference | from | to | p (t-test) | p (Holm) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (row, metric), each in found.items():
        numbers = " | ".join(f"{value:+.4f}" for value in (each.difference, each.low, each.high))
        chances = f"{each.p:.4f} | {corrected[row, metric]:.4f}"
        lines.append(f"| {row} | {len(rows[row])} | {metric} | {numbers} | {chances} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="results of a comparison without a grid")
    parser.add_argument("baseline", help="a row of it")
    asked = parser.parse_args()
    try:
        rows = read(asked.folder)
    except ValueError as error:
        parser.error(str(error))
    if asked.baseline not in rows:
        parser.error(f"baseline = {asked.baseline}: the rows in {asked.folder} are {', '.join(rows) or 'none'}")
    lines = table(rows, asked.baseline)
    print(*lines, sep="\n")
    head = [f"`python benchmarks/against.py {asked.folder} {asked.baseline}`", "", f"Row minus {asked.baseline}.", ""]
    (asked.folder / f"against-{asked.baseline}.md").write_text("\n".join([*head, *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
