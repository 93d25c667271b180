"""One training step and one evaluation step of each model: time, peak memory and parameters.

    python benchmarks/train_step.py                      # or `make steps`, with fewer repeats
    python benchmarks/train_step.py --models STOSA AWRSTOSA:refinement=stochastic AWRSTOSA:refinement=value --heads 2
    python benchmarks/train_step.py --models SASRec ACTSR ACTSR:preset=released --lengths 50 --layers 2 --repeats 1
    python benchmarks/train_step.py --models SASRec SASRec:fast_dropout=True AttnSASRec AttnSASRec:precision=bf16

Without --models, the tables of AC-TSR and of AWRSR, at lengths 50 and 200 with 2 and 3 layers, and the goals at length
50 as reached or not. Models are named as on the command line, RecBole's or ours, settings after a colon. Every
measurement has a process of its own and the models take turns; numbers are medians over the turns with the smallest and
largest, ratios are medians of those within a turn: to RecBole's SASRec, to SASRec with our dropout, which draws cheaper
random numbers on a CPU, so that what they save is not taken for the mechanism's, and to a row's own backbone. Histories
are random and full, so nothing is trimmed. A training step is loss, backward and Adam, one target a history. Anomaly
mode, which importing RecBole alone turns on, is off unless `--anomaly` is given. Memory is the growth of the peak
resident set (on a GPU, of what PyTorch allocated) over what stood before the first step; freed memory is kept, as a run
of ours does, for all models alike. Writes `benchmarks/results/train_step.md` and, turn by turn, `.csv`. Finished
measurements are kept in the `.json` beside them, which is this machine's alone and not committed: a command that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from goals import ratios, step_verdicts
from kept import keeping, settings_of

RESULTS = Path(__file__).parent / "results"
PHASES = {"train": "Training step", "eval": "Evaluation step"}
MEASURES = ("ms", "cpu_ms", "mib")
FREE = {"models", "lengths", "layers", "repeats", "name", "measure"}
SASREC = ("SASRec", "SASRec:fast_dropout=True")
TABLES = {
    "AC-TSR": [*SASREC, "AttnSASRec", "ACTSR", "ACTSR:preset=released", "AttnBERT4Rec", "ACBERT4Rec"],
    "AWRSR": [
        *SASREC,
        "AttnSASRec",
        *(f"AWRSR:refinement={name}" for name in ("simple", "value", "value_map", "additive")),
        "STOSA",
        *(f"AWRSTOSA:refinement={name}" for name in ("simple", "value", "value_map", "additive", "stochastic")),
    ],
}
BACKBONES = {
    "ACTSR": "AttnSASRec",
    "AWRSR": "AttnSASRec",
    "FocusedSASRec": "AttnSASRec",
    "AWRSTOSA": "STOSA",
    "ACBERT4Rec": "AttnBERT4Rec",
    "FAIR": "RPG",
}


class Row(NamedTuple):
    """One model at one size; `turns` holds a list for each of train_ms, train_cpu_ms, train_mib, eval_ms ..."""

    model: str
    layers: int
    length: int
    parameters: int
    turns: dict[str, list[float]]


def measure(spec: dict) -> dict[str, float]:
    """Median milliseconds of a step, of wall clock and of CPU time, peak memory in MiB, and trained parameters."""
    importlib.import_module("recbole_attn")  # first of all: it mends RecBole
    import torch

    from recbole_attn.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(spec["threads"])
    torch.autograd.set_detect_anomaly(spec["anomaly"])
    torch.manual_seed(0)
    model, batch = build(spec)
    step = training_step(model, batch) if spec["phase"] == "train" else evaluation_step(model, batch, spec.get("top"))
    before = memory_mib(spec["device"], peak=False)
    step()
    wall, cpu = zip(*(timed(step, spec["device"]) for _ in range(spec["steps"])))
    grown = memory_mib(spec["device"], peak=True) - before
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    times = {"ms": 1e3 * statistics.median(wall), "cpu_ms": 1e3 * statistics.median(cpu)}
    return {**times, "mib": grown, "parameters": parameters}


def build(spec: dict):
    """The model and a batch of random full histories, on their device."""
    import torch
    from recbole.data.interaction import Interaction

    from recbole_attn.acceleration import accelerate
    from recbole_attn.config.settings import load_settings
    from recbole_attn.run import build_model

    name, _, changes = spec["model"].partition(":")
    sizes = {"n_layers": spec["layers"], "n_heads": spec["heads"], "hidden_size": spec["hidden"]}
    given = dict(pair.split("=") for pair in changes.split(",") if pair)
    values = {**sizes, "MAX_ITEM_LIST_LENGTH": spec["length"], **given}
    config = load_settings(name, "ml-100k", config_dict=values).config
    config["device"] = torch.device(spec["device"])

    class Catalogue:
        def num(self, field):
            return spec["items"]

    item, batch = config["ITEM_ID_FIELD"], spec["batch"]
    fields = {
        config["USER_ID_FIELD"]: torch.arange(1, batch + 1),
        item + config["LIST_SUFFIX"]: torch.randint(1, spec["items"], (batch, spec["length"])),
        config["ITEM_LIST_LENGTH_FIELD"]: torch.full((batch,), spec["length"]),
        item: torch.randint(1, spec["items"], (batch,)),
        config["NEG_PREFIX"] + item: torch.randint(1, spec["items"], (batch,)),
    }
    model = build_model(config, Catalogue())
    accelerate(config, model)
    return model, Interaction(fields).to(config["device"])


def training_step(model, batch):
    import torch

    optimizer = torch.optim.Adam(model.parameters())
    model.train()

    def step():
        optimizer.zero_grad()
        losses = model.calculate_loss(batch)
        (sum(losses) if isinstance(losses, tuple) else losses).backward()
        optimizer.step()

    return step


def evaluation_step(model, batch, top: int | None = None):
    """The scores of all items, or as an evaluation ranks them the `top` best, in chunks where a model offers that."""
    import torch

    from recbole_attn.streaming import scores_of

    model.eval()
    if top is None:
        return torch.no_grad()(lambda: model.full_sort_predict(batch))
    return torch.no_grad()(lambda: scores_of(model, batch, model.n_items, None, None).top_k(top))


def timed(step, device: str) -> tuple[float, float]:
    import torch

    wall, cpu = time.perf_counter(), time.process_time()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def memory_mib(device: str, peak: bool) -> float:
    import torch

    from recbole_attn.memory import peak_resident

    if device != "cpu":
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20
    if peak:
        return peak_resident() / 2**20
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return resident * resource.getpagesize() / 2**20


def in_own_process(spec: dict) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, f"--measure={json.dumps(spec)}"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def compare(args: argparse.Namespace, layers: int, length: int, keep: Callable) -> list[Row]:
    """All models at one size; `keep` is from `keeping`."""
    shared = {name: getattr(args, name) for name in ("batch", "heads", "hidden", "items", "steps", "threads", "device")}
    shared.update(layers=layers, length=length, anomaly=args.anomaly)
    found: dict = {(model, phase): [] for model in args.models for phase in PHASES}
    for turn in range(args.repeats):
        for model, phase in found:
            make = partial(in_own_process, {**shared, "model": model, "phase": phase})
            found[model, phase].append(keep(f"{layers} layers | length {length} | {model} | {phase} | {turn}", make))
    return [
        Row(
            model,
            layers,
            length,
            found[model, "train"][0]["parameters"],
            {f"{phase}_{name}": [run[name] for run in found[model, phase]] for phase in PHASES for name in MEASURES},
        )
        for model in args.models
    ]


def table(rows: list[Row], phase: str) -> str:
    """One phase of one size in Markdown."""
    bases = [name for name in SASREC if name in (row.model for row in rows)]
    times = [f"× {name}" for name in (*bases, "own backbone")]
    heads = ["model", "parameters", "ms (all turns)", *times, "CPU ms", "MiB (all turns)", *times]
    lines = [f"\n{PHASES[phase]}:\n", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row.model, f"{row.parameters:,}", spread(row.turns[f"{phase}_ms"])]
        cells += factors(rows, row, bases, f"{phase}_ms")
        cells += [f"{statistics.median(row.turns[f'{phase}_cpu_ms']):.0f}", spread(row.turns[f"{phase}_mib"])]
        cells += factors(rows, row, bases, f"{phase}_mib")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def factors(rows: list[Row], row: Row, bases: list[str], measure: str) -> list[str]:
    """A row's ratios to the bases and to its own backbone; a dash where that is not among the rows."""
    turns = {other.model: other.turns[measure] for other in rows}
    own = BACKBONES.get(row.model.split(":")[0])
    return [
        f"{statistics.median(ratios(row.turns[measure], turns[base])):.2f}" if base in turns else "–"
        for base in (*bases, own)
    ]


def report(sizes: list[list[Row]], tables: dict[str, list[str]]) -> str:
    """All tables, and what became of the goals."""
    text = ""
    for name, models in tables.items():
        for rows in sizes:
            text += f"\n## {name}: {rows[0].layers} layers, length {rows[0].length}\n"
            text += "".join(table([row for row in rows if row.model in models], phase) for phase in PHASES)
    lines = [
        f"* {rows[0].layers} layers: {line}"
        for rows in sizes
        for line in step_verdicts(rows[0].length, {row.model: row.turns for row in rows})
    ]
    return text + ("\n## Goals\n\n" + "\n".join(lines) + "\n" if lines else "")


def write(args: argparse.Namespace, sizes: list[list[Row]], tables: dict[str, list[str]], load: float) -> None:
    from recbole_attn.compare.machine import processor

    with (RESULTS / f"{args.name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "layers", "length", "parameters", "turn", *sizes[0][0].turns])
        for row in (row for rows in sizes for row in rows):
            for turn, values in enumerate(zip(*row.turns.values())):
                writer.writerow([*row[:-1], turn, *(round(value, 2) for value in values)])
    about = (
        f"# Training and evaluation steps\n\n`{' '.join(['python benchmarks/train_step.py', *sys.argv[1:]])}`\n\n"
        f"Batch {args.batch}, {args.heads} heads, hidden size {args.hidden}, {args.items} items, full histories; "
        f"medians of {args.repeats} processes of {args.steps} steps. {args.device}, {args.threads} threads, "
        f"{processor()}, torch {version('torch')}; anomaly mode {'on' if args.anomaly else 'off'}; load when it "
        f"began: {load:.1f}.\n"
    )
    (RESULTS / f"{args.name}.md").write_text(about + report(sizes, tables), encoding="utf-8")


def refusal(models: list[str]) -> str | None:
    """Why these rows are not measured; None where they can be."""
    whole = [model for model in models if "training=sequence" in model.partition(":")[2].split(",")]
    if whole:
        return f"{', '.join(whole)}: steps here have one target a history; benchmarks/epochs.py measures sequences"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="those of both tables unless given")
    parser.add_argument("--lengths", nargs="+", type=int, default=[50, 200])
    parser.add_argument("--layers", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--items", type=int, default=3417, help="ids, padding included (3417: those of ml-1m)")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of a process, after one to warm up")
    parser.add_argument("--repeats", type=int, default=5, help="processes for each model and step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--anomaly", action="store_true", help="autograd's anomaly mode on, as in RecBole alone")
    parser.add_argument("--name", default="train_step", help="name of the result files")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    args, load = parser.parse_args(), os.getloadavg()[0]
    if args.measure:
        sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
        print(json.dumps(measure(args.measure)))
        return
    tables = {"Models": args.models} if args.models else TABLES
    args.models = list(dict.fromkeys(model for models in tables.values() for model in models))
    if refusal(args.models):
        parser.error(refusal(args.models))
    RESULTS.mkdir(exist_ok=True)
    keep = keeping(RESULTS / f"{args.name}.json", settings_of(args, FREE))
    sizes = [compare(args, layers, length, keep) for layers in args.layers for length in args.lengths]
    write(args, sizes, tables, load)
    (RESULTS / f"{args.name}.json").unlink(missing_ok=True)  # a finished command measures anew when it is given again
    print((RESULTS / f"{args.name}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
