"""Data preparation, RecBole's `SequentialDataset` against ours: from the .inter file to the three loaders.

    python benchmarks/prepare_data.py --data_path=../shared/data --dataset=ml-1m
    python benchmarks/prepare_data.py --synthetic=20000000

Every measurement has a process of its own; the two classes take turns. Memory is the growth of the peak resident set
from just before the file is read. A synthetic log is prepared by our class only (RecBole's needs 50 columns a row).
Writes `benchmarks/results/prepare_data-NAME.md`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLASSES = ("recbole", "ours")
RESULTS = Path(__file__).parent / "results"


def measure(which: str, data_path: str, dataset: str) -> dict[str, float]:
    """Seconds to read and filter, seconds to build the loaders, and MiB of peak memory, in this process."""
    importlib.import_module("recbole_attn")  # first of all: it mends RecBole
    from recbole.config import Config
    from recbole.data import data_preparation
    from recbole.data.dataset import SequentialDataset

    from recbole_attn.data import load_dataset, split
    from recbole_attn.memory import keep_freed_memory, peak_resident

    logging.disable(logging.WARNING)
    sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
    settings = {
        "data_path": data_path,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "train_neg_sample_args": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "use_gpu": False,
    }
    config = Config(model="SASRec", dataset=dataset, config_dict=settings)
    make, divide = (load_dataset, split) if which == "ours" else (SequentialDataset, data_preparation)
    if which == "ours":
        keep_freed_memory()  # as every run does
    memory, begin = peak_resident(), time.perf_counter()
    data = make(config)
    read = time.perf_counter()
    divide(config, data)
    return {"read": read - begin, "split": time.perf_counter() - read, "mib": (peak_resident() - memory) / 2**20}


def write_log(folder: Path, interactions: int) -> None:
    """A log of random users and popular items in Unix seconds, 140 interactions a user, in the order of time."""
    import numpy as np
    import pandas as pd

    generator = np.random.default_rng(0)
    users, items = max(interactions // 140, 1), max(interactions // 600, 100)
    with (folder / f"{folder.name}.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for start in range(0, interactions, 1_000_000):
            size = min(1_000_000, interactions - start)
            columns = {
                "user": generator.integers(users, size=size),
                "item": (items * generator.random(size) ** 2).astype(np.int64),
                "time": 1_500_000_000 + start + np.arange(size),
            }
            pd.DataFrame(columns).to_csv(file, sep="\t", header=False, index=False)


def in_own_process(*arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def compare(classes: tuple[str, ...], data_path: str, dataset: str, repeats: int) -> dict[str, dict[str, float]]:
    """Medians by class."""
    runs: dict[str, list[dict[str, float]]] = {which: [] for which in classes}
    for _ in range(repeats):
        for which in classes:
            answer = in_own_process(f"--measure={which}", f"--data_path={data_path}", f"--dataset={dataset}")
            runs[which].append(json.loads(answer.splitlines()[-1]))
    return {
        which: {key: statistics.median(run[key] for run in rows) for key in rows[0]} for which, rows in runs.items()
    }


def report(medians: dict[str, dict[str, float]], dataset: str, repeats: int) -> str:
    text = f"`python benchmarks/prepare_data.py {' '.join(sys.argv[1:])}`\n\n{dataset}, medians of {repeats}, "
    text += f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end\n\n"
    text += "| class | read s | split s | total s | peak MiB |\n|---|---|---|---|---|\n"
    for which, row in medians.items():
        total = row["read"] + row["split"]
        text += f"| {which} | {row['read']:.2f} | {row['split']:.2f} | {total:.2f} | {row['mib']:.0f} |\n"
    if len(medians) == len(CLASSES):
        stock, ours = (medians[which] for which in CLASSES)
        faster = (stock["read"] + stock["split"]) / (ours["read"] + ours["split"])
        text += f"\n{faster:.1f} x faster, {ours['mib'] / stock['mib']:.2f} of the memory\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", default="dataset", help="folder of data set folders")
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--synthetic", type=int, metavar="N", help="prepare a log of N interactions made up for it")
    parser.add_argument("--measure", choices=CLASSES, help="one measurement in this process, printed as JSON")
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_log(Path(args.data_path), args.write)
    elif args.measure:
        print(json.dumps(measure(args.measure, args.data_path, args.dataset)))
    else:
        text = prepare(args)
        name = f"synthetic-{args.synthetic}" if args.synthetic else args.dataset
        (RESULTS / f"prepare_data-{name}.md").write_text(text, encoding="utf-8")
        print(text)


def prepare(args: argparse.Namespace) -> str:
    if args.synthetic:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "synthetic").mkdir()
            in_own_process(f"--write={args.synthetic}", f"--data_path={folder}/synthetic")
            repeats = min(args.repeats, 1)
            return report(compare(("ours",), folder, "synthetic", repeats), f"{args.synthetic} interactions", repeats)
    return report(compare(CLASSES, args.data_path, args.dataset, args.repeats), args.dataset, args.repeats)


if __name__ == "__main__":
    main()
