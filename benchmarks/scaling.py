"""How cost grows: with the length of histories, the number of items, and the number of users.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --models AttnSASRec --repeats 1 --lengths 25 50 --items 1000 10000 --users 1000 4000

Lengths and items: a training and an evaluation step on random full histories, as in `train_step.py` (batch 256, and 64
for items, where an evaluation step finds the best 20 of all). Along length also the one product R·A of value refinement
alone, for one layer and batch 256: it costs L³, where plain attention costs L². Users: preparation, a training epoch
and an evaluation of a synthetic log with 20 interactions a user, as in `one_epoch.py`. Medians over the repeats, each
in a process of its own (of R·A: over its steps, in this process). The exponent is the slope of a straight line through
log cost against log size; `end` is that of the last two points, where constant costs matter least. Writes
`benchmarks/results/scaling.md`, `.csv` and `.png`. Finished measurements are kept in the `.json` beside them, which is
this machine's alone and not committed: a command that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import epochs
import numpy as np
import train_step
from kept import keeping, settings_of

RESULTS = Path(__file__).parent / "results"
FREE = {"models", "lengths", "items", "users", "repeats", "name"}
SIZES = {"layers": 2, "heads": 2, "hidden": 64, "device": "cpu", "anomaly": False}
PER_USER, CATALOGUE = 20, 5000
PRODUCT = "R·A"
TOP = 20


class Point(NamedTuple):
    """One cost of one model at one size."""

    along: str
    model: str
    cost: str
    size: int
    value: float


def of_steps(args: argparse.Namespace, along: str, sizes: list[int], keep: Callable) -> list[Point]:
    """Milliseconds and MiB of steps along `length` or `items`."""
    fixed = {"length": 50, "items": 3417, "batch": 256 if along == "length" else 64, "threads": args.threads}
    fixed["top"] = TOP if along == "items" else None
    points = []
    for size in sizes:
        runs: dict = {(model, phase): [] for model in args.models for phase in train_step.PHASES}
        for turn in range(args.repeats):
            for model, phase in runs:
                spec = {**SIZES, **fixed, along: size, "steps": args.steps, "model": model, "phase": phase}
                make = partial(train_step.in_own_process, spec)
                runs[model, phase].append(keep(f"{along} {size} | {model} | {phase} | {turn}", make))
        for (model, phase), found in runs.items():
            for name in ("ms", "mib"):
                value = statistics.median(run[name] for run in found)
                points.append(Point(along, model, f"{phase} {name}", size, value))
    return points


def of_product(args: argparse.Namespace) -> list[Point]:
    """Milliseconds of the product of two maps (256, H, L, L) along `length`."""
    import torch

    torch.set_num_threads(args.threads)
    points = []
    for length in args.lengths:
        refined, first = torch.rand(2, 256, SIZES["heads"], length, length).tril_()
        torch.matmul(refined, first)
        found = [train_step.timed(lambda: torch.matmul(refined, first), "cpu")[0] for _ in range(args.steps)]  # noqa: B023
        points.append(Point("length", PRODUCT, "product ms", length, 1e3 * statistics.median(found)))
    return points


def of_users(args: argparse.Namespace, keep: Callable) -> list[Point]:
    """Seconds of preparation, training epoch and evaluation."""
    points = []
    for users in args.users:
        with tempfile.TemporaryDirectory() as folder:
            dataset = f"users-{users}"
            write_log(Path(folder) / dataset, users)
            settings = {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": 50}
            ours = argparse.Namespace(**vars(args), bucket_steps=args.steps, warm_up=1, data_path=folder)
            ours.settings = {**settings, "train_batch_size": 2048, "train_neg_sample_args": None}
            found = epochs.take_turns(ours, dataset, args.models, "cpu", keep)
        for model, run in found.items():
            costs = {"preparation s": "prepare_s", "epoch s": "epoch_s", "evaluation s": "eval_s"}
            points += [Point("users", model, cost, users, run[key]) for cost, key in costs.items()]
    return points


def write_log(folder: Path, users: int) -> None:
    """Each user's interactions with items at random, popular ones more often."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    items = (CATALOGUE * draw.random((users, PER_USER)) ** 2).astype(int)
    rows = (f"{user}\t{item}\t{time}" for user, row in enumerate(items) for time, item in enumerate(row))
    with (folder / f"{folder.name}.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        file.writelines(f"{row}\n" for row in rows)


def curves(points: list[Point]) -> dict[tuple[str, str, str], list[Point]]:
    grouped: dict[tuple[str, str, str], list[Point]] = {}
    for point in points:
        grouped.setdefault((point.along, point.cost, point.model), []).append(point)
    return grouped


def exponent(points: list[Point]) -> float:
    """Slope of log value against log size; NaN where a value is not above 0 or there is one point alone."""
    size, value = (np.array([getattr(p, name) for p in points], dtype=float) for name in ("size", "value"))
    if len(points) < 2 or (value <= 0).any():
        return float("nan")
    return float(np.polyfit(np.log(size), np.log(value), 1)[0])


def table(points: list[Point]) -> str:
    lines = []
    for along in dict.fromkeys(point.along for point in points):
        chosen = {key: found for key, found in curves(points).items() if key[0] == along}
        sizes = [point.size for point in next(iter(chosen.values()))]
        lines += [f"\n## Along {along}\n", f"| cost | model | {' | '.join(map(str, sizes))} | exponent | end |"]
        lines.append("|---" * (4 + len(sizes)) + "|")
        for (_, cost, model), found in chosen.items():
            cells = [f"{point.value:.3g}" for point in found]
            cells += [f"{exponent(found):.2f}", f"{exponent(found[-2:]):.2f}"]
            lines.append(f"| {cost} | {model} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(points: list[Point], file: Path) -> None:
    """Training cost along each size."""
    from matplotlib.figure import Figure

    shown = {"length": ("train ms", "product ms"), "items": ("train ms",), "users": ("epoch s",)}
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (along, costs) in zip(figure.subplots(1, 3), shown.items()):
        for (where, cost, model), found in curves(points).items():
            if where == along and cost in costs:
                axes.loglog([p.size for p in found], [p.value for p in found], marker="o", label=model)
        sizes = sorted({p.size for p in points if p.along == along})
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set(xlabel=along, ylabel=costs[0])
    figure.axes[0].legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    from recbole_attn.compare.machine import processor

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["SASRec", "AttnSASRec", "ACTSR", "AWRSR", "FAIR"])
    parser.add_argument("--lengths", nargs="*", type=int, default=[25, 50, 100, 200, 400])
    parser.add_argument("--items", nargs="*", type=int, default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--users", nargs="*", type=int, default=[1000, 4000, 16_000, 64_000])
    parser.add_argument("--steps", type=int, default=5, help="measured steps of a process")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="scaling", help="name of the result files")
    args, load = parser.parse_args(), os.getloadavg()[0]
    RESULTS.mkdir(exist_ok=True)
    keep = keeping(RESULTS / f"{args.name}.json", settings_of(args, FREE))
    points = of_steps(args, "length", args.lengths, keep) + of_product(args)
    points += of_steps(args, "items", args.items, keep) + of_users(args, keep)
    with (RESULTS / f"{args.name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([Point._fields, *points])
    about = (
        f"# Scaling\n\n`python benchmarks/scaling.py {' '.join(sys.argv[1:])}`\n\nMedians of {args.repeats} processes; "
        f"{args.threads} threads, {processor()}, torch {version('torch')}. Load when it began: {load:.1f}.\n"
    )
    (RESULTS / f"{args.name}.md").write_text(about + table(points), encoding="utf-8")
    draw(points, RESULTS / f"{args.name}.png")
    (RESULTS / f"{args.name}.json").unlink(missing_ok=True)  # a finished command measures anew when it is given again
    print((RESULTS / f"{args.name}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
