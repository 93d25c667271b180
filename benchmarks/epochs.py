"""Epochs of RecBole and of this package in turn: time, peak memory, and where the time goes.

    python benchmarks/epochs.py --data_path=../shared/data
    python benchmarks/epochs.py --datasets ml-100k --repeats 1 --steps 3 --rows SASRec@released AttnSASRec

Rows: see `one_epoch.py`. Every measurement has a process of its own, the rows take turns, numbers are medians over the
repeats. A training epoch is `--steps` steps after `--warm_up` ones, extrapolated where the epoch has more; with length
buckets, whose batches differ in cost, `--bucket_steps`: the whole epoch on ml-100k and amazon-beauty. Forward is the
loss, which holds gradients where it makes them along the way: the softmax's on a CPU, both backward passes of ACTSR.
Backward is all else but the data: gradients, optimiser, watching. Data and forward are RecBole's and ours alike. Memory
is the peak of a phase above what the process held after its imports. Writes `benchmarks/results/epochs.md` and `.csv`;
where there is a GPU, rows of it as well. Finished measurements are kept in the `.json` beside them, which is this
machine's alone and not committed: a command that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from goals import BUCKETS, PREFIX, QUIET, RELEASED, verdicts
from kept import keeping, settings_of
from one_epoch import measure

RESULTS = Path(__file__).parent / "results"
FREE = {"datasets", "data_path", "devices", "rows", "repeats", "name", "set", "measure"}
OURS = ("AttnSASRec", "ACTSR", "AWRSR", "FAIR")
GPU = ("precision=bf16", "compile=True", "precision=bf16,compile=True")


def default_rows() -> list[str]:
    """RecBole, and our models on prefixes and on whole sequences."""
    from recbole_attn.model import MODELS

    rows = [RELEASED, QUIET, f"SASRec:fast_dropout=True,trim=True,{BUCKETS}", "AttnSASRec"]
    rows += [f"{name}:{PREFIX},{BUCKETS}" for name in OURS if name in MODELS]
    return rows + [f"{name}:training=sequence" for name in OURS if name in MODELS]


def gpu_rows(rows: list[str]) -> list[str]:
    """The rows, and those of our models again with AMP and compiled."""
    ours = [row for row in rows if row.split(":")[0] in OURS]
    return rows + [f"{row}{',' if ':' in row else ':'}{way}" for row in ours for way in GPU]


def in_own_process(spec: dict) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:  # RecBole writes logs and folders where it stands
        spec = {**spec, "scratch": scratch}
        command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), f"--measure={json.dumps(spec)}"]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=scratch).stdout
    return json.loads(printed.splitlines()[-1])


def take_turns(
    args: argparse.Namespace, dataset: str, rows: list[str], device: str, keep: Callable = lambda key, make: make()
) -> dict[str, dict[str, float]]:
    """Medians of each row."""
    shared = {name: getattr(args, name) for name in ("threads", "steps", "bucket_steps", "warm_up", "settings")}
    shared.update(dataset=dataset, device=device, data_path=str(Path(args.data_path).resolve()))
    runs: dict[str, list[dict[str, float]]] = {row: [] for row in rows}
    for turn in range(args.repeats):
        for row in rows:
            make = partial(in_own_process, {**shared, "row": row})
            runs[row].append(keep(f"{dataset} | {device} | {row} | {turn}", make))
    return {row: {key: statistics.median(run[key] for run in found) for key in found[0]} for row, found in runs.items()}


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown; shares are those of a training epoch with one evaluation."""
    columns = "| row | prepare s | epoch s | steps measured | steps/s | evaluation s | data | forward | backward |"
    lines = [columns + " evaluation | MiB: prepare | train | evaluate |", "|---" * 13 + "|"]
    for row, run in found.items():
        scale = run["epoch_s"] / run["train_s"] / (run["epoch_s"] + run["eval_s"])
        parts = [run["data_s"], run["forward_s"], run["train_s"] - run["data_s"] - run["forward_s"]]
        shares = [f"{part * scale:.0%}" for part in parts] + [f"{run['eval_s'] / (run['epoch_s'] + run['eval_s']):.0%}"]
        numbers = [f"{run['prepare_s']:.2f}", f"{run['epoch_s']:.2f}", f"{run['steps']:.0f} of {run['of_steps']:.0f}"]
        numbers += [f"{run['steps_per_s']:.2f}", f"{run['eval_s']:.2f}", *shares]
        numbers += [f"{run[f'{phase}_mib']:.0f}" for phase in ("prepare", "train", "eval")]
        lines.append(f"| {row} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def about(args: argparse.Namespace) -> str:
    from recbole_attn.compare.machine import processor

    sizes = ", ".join(f"{key} {value}" for key, value in args.settings.items())
    return (
        f"# Epochs\n\n`python benchmarks/epochs.py {' '.join(sys.argv[1:])}`\n\n{sizes}; medians of {args.repeats} "
        f"processes, rows in turn; {args.threads} threads, {os.cpu_count()} cores, {processor()}, Python "
        f"{platform.python_version()}, torch {version('torch')}. Load when it began: {os.getloadavg()[0]:.1f}.\n"
    )


def compare(args: argparse.Namespace) -> str:
    """Measure all, write the CSV file, and return the report."""
    import torch

    devices = args.devices or ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    text, medians, records = about(args), {}, []
    keep = keeping(RESULTS / f"{args.name}.json", settings_of(args, FREE))
    for device in devices:
        rows = args.rows if device == "cpu" else gpu_rows(args.rows)
        for dataset in args.datasets:
            found = take_turns(args, dataset, rows, device, keep)
            name = device if device == "cpu" else torch.cuda.get_device_name()
            text += f"\n## {dataset}, {name}\n\n{table(found)}"
            records += [{"dataset": dataset, "device": name, "row": row, **run} for row, run in found.items()]
            if device == "cpu":
                medians.update({(dataset, row): run for row, run in found.items()})
    with (RESULTS / f"{args.name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)
    goals = verdicts(medians)
    return text + ("\n## Goals\n\n" + "\n".join(goals) + "\n" if goals else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["ml-100k", "amazon-beauty", "ml-1m"])
    parser.add_argument("--data_path", default="dataset", help="folder that holds the data sets' folders")
    parser.add_argument("--devices", nargs="+", choices=["cpu", "cuda"], help="by default cpu, and cuda where it is")
    parser.add_argument("--rows", nargs="+", help="by default SASRec in RecBole and here, and our models")
    parser.add_argument("--steps", type=int, default=12, help="measured training steps")
    parser.add_argument("--bucket_steps", type=int, default=100, help="measured steps of rows with length buckets")
    parser.add_argument("--warm_up", type=int, default=2, help="training steps before them")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="epochs", help="name of the result files")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all rows")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
        print(json.dumps(measure(args.measure)))
        return
    sizes = {"hidden_size": 64, "inner_size": 256, "n_layers": 2, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": 50}
    given = dict(pair.split("=") for pair in args.set)
    args.settings = {**sizes, "train_batch_size": 2048, "train_neg_sample_args": None, **given}
    args.rows = args.rows or default_rows()
    RESULTS.mkdir(exist_ok=True)
    report = compare(args)
    (RESULTS / f"{args.name}.md").write_text(report, encoding="utf-8")
    (RESULTS / f"{args.name}.json").unlink(missing_ok=True)  # a finished command measures anew when it is given again
    print(report)


if __name__ == "__main__":
    main()
