"""Train the rows of a table, one process each, and print it in Markdown.

    python benchmarks/table.py benchmarks/ml-100k.yaml
    python benchmarks/table.py benchmarks/ml-1m.yaml --data_path=../shared/data

A row that is finished is read from `benchmarks/results/<table>/<row>.json`; one that was killed is resumed. Every row
shares `settings`; what else differs stands in the YAML file.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import yaml

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("recall@10", "ndcg@10", "mrr@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="YAML file: dataset, settings, rows")
    parser.add_argument("--data_path", default="dataset", help="folder that holds the data set's folder")
    parser.add_argument("--row", help="train this row alone, in this process")
    arguments = parser.parse_args()
    table = yaml.safe_load(arguments.table.read_text(encoding="utf-8"))
    folder = RESULTS / arguments.table.stem
    if arguments.row:
        train(table, arguments.row, folder, arguments.data_path)
        return
    for row in table["rows"]:
        if not result_file(folder, row).exists():
            subprocess.run([sys.executable, *sys.argv, f"--row={row}"], check=True)
    print(markdown([json.loads(result_file(folder, row).read_text(encoding="utf-8")) for row in table["rows"]]))


def result_file(folder: Path, row: str) -> Path:
    return folder / f"{row.lower().replace(' ', '-').replace('(', '').replace(')', '')}.json"


def train(table: dict, row: str, folder: Path, data_path: str) -> None:
    """Train one row to its end, from its last checkpoint where there is one, and write its result."""
    import numpy
    import torch

    from recbole_attn.config.settings import load_settings
    from recbole_attn.run import run

    saved = Path("saved") / folder.name / result_file(folder, row).stem
    settings = {**table.get("settings", {}), **table["rows"][row], "dataset": table["dataset"]}
    places = {"data_path": data_path, "checkpoint_dir": str(saved)}
    config = load_settings(config_dict={**settings, **places}).config
    unfinished = sorted(saved.glob("*/last.pth"), key=lambda path: path.stat().st_mtime)
    start = time.time()
    result = run(config, resume=str(unfinished[-1]) if unfinished else None)
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "threads": torch.get_num_threads(),
        "device": str(config["device"]),
    }
    record = {"row": row, "settings": settings, "machine": machine, "seconds": time.time() - start}
    record.update(result._asdict(), history=[epoch._asdict() for epoch in result.history], checkpoint=None)
    folder.mkdir(parents=True, exist_ok=True)
    result_file(folder, row).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def markdown(records: list[dict]) -> str:
    lines = [
        "| model | Recall@10 | NDCG@10 | MRR@10 | validation NDCG@10 | s/epoch | epochs (best) | parameters |",
        "|---|---|---|---|---|---|---|---|",
    ]
    best = {name: max(record["test"][name] for record in records) for name in COLUMNS}
    for record in records:
        cells = [bold(record["test"][name], best[name]) for name in COLUMNS]
        cells += [f"{record['valid']['ndcg@10']:.4f}", f"{record['seconds_per_epoch']:.1f}"]
        cells += [f"{record['epochs']} ({record['best_epoch'] + 1})", f"{record['parameters']:,}"]
        lines.append(f"| {record['row']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def bold(value: float, best: float) -> str:
    return f"**{value:.4f}**" if value == best else f"{value:.4f}"


if __name__ == "__main__":
    main()
