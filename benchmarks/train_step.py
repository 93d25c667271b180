"""One training step and one evaluation step of each model: time and peak memory.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --models STOSA AWRSTOSA:refinement=stochastic AWRSTOSA:refinement=value --heads 2
    python benchmarks/train_step.py --models SASRec ACTSR ACTSR:preset=released --lengths 50 --layers 2 --repeats 1
    python benchmarks/train_step.py --models SASRec SASRec:fast_dropout=True AttnSASRec AttnSASRec:precision=bf16

Models are named as on the command line, RecBole's or ours, settings after a colon. Every measurement has a process of
its own and the models take turns; numbers are medians over the repeats, factors those over the first model. Histories
are random and full, so nothing is trimmed. A training step is loss, backward and Adam. Anomaly mode, which importing
RecBole alone turns on, is off unless `--anomaly` is given. Memory is the growth of the peak resident set (on a GPU, of
what PyTorch allocated) over what stood before the first step; freed memory is kept, as a run of ours does, for all
models alike. Writes `benchmarks/results/train_step.md` and `.csv`.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PHASES = ("train", "eval")
MEASURES = ("ms", "cpu_ms", "mib")


def measure(spec: dict) -> dict[str, float]:
    """Median milliseconds of a step, of wall clock and of CPU time, and peak memory in MiB; in this process."""
    importlib.import_module("recbole_attn")  # first of all: it mends RecBole
    import torch

    from recbole_attn.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(spec["threads"])
    torch.autograd.set_detect_anomaly(spec["anomaly"])
    torch.manual_seed(0)
    model, batch = build(spec)
    step = training_step(model, batch) if spec["phase"] == "train" else evaluation_step(model, batch)
    before = memory_mib(spec["device"], peak=False)
    step()
    wall, cpu = zip(*(timed(step, spec["device"]) for _ in range(spec["steps"])))
    grown = memory_mib(spec["device"], peak=True) - before
    return {"ms": 1e3 * statistics.median(wall), "cpu_ms": 1e3 * statistics.median(cpu), "mib": grown}


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


def evaluation_step(model, batch):
    import torch

    model.eval()
    return torch.no_grad()(lambda: model.full_sort_predict(batch))


def timed(step, device: str) -> tuple[float, float]:
    import torch

    wall, cpu = time.perf_counter(), time.process_time()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def memory_mib(device: str, peak: bool) -> float:
    import torch

    if device != "cpu":
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return resident * resource.getpagesize() / 2**20


def in_own_process(spec: dict) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, f"--measure={json.dumps(spec)}"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def compare(args: argparse.Namespace, layers: int, length: int) -> list[dict]:
    """A row of medians for each model at one size."""
    shared = {name: getattr(args, name) for name in ("batch", "heads", "hidden", "items", "steps", "threads", "device")}
    shared.update(layers=layers, length=length, anomaly=args.anomaly)
    found: dict = {(model, phase): [] for model in args.models for phase in PHASES}
    for _ in range(args.repeats):
        for model, phase in found:
            found[model, phase].append(in_own_process({**shared, "model": model, "phase": phase}))
    return [
        {
            "model": model,
            "layers": layers,
            "length": length,
            **{
                f"{phase}_{name}": statistics.median(run[name] for run in found[model, phase])
                for phase in PHASES
                for name in MEASURES
            },
        }
        for model in args.models
    ]


def table(rows: list[dict]) -> str:
    """One size in Markdown."""
    columns = [f"{phase}_{name}" for phase in PHASES for name in MEASURES]
    heads = ["train ms", "CPU ms", "MiB", "evaluation ms", "CPU ms", "MiB"]
    lines = [f"\n## {rows[0]['layers']} layers, length {rows[0]['length']}\n", f"| model | {' | '.join(heads)} |"]
    lines.append("|---" * 7 + "|")
    for row in rows:
        cells = [f"{row[name]:.0f} ({row[name] / rows[0][name]:.2f} ×)" for name in columns]
        lines.append(f"| {row['model']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(args: argparse.Namespace, sizes: list[list[dict]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    rows = [row for size in sizes for row in size]
    with (RESULTS / f"{args.name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({key: round(v, 2) if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    about = (
        f"# Training and evaluation steps\n\n`python benchmarks/train_step.py {' '.join(sys.argv[1:])}`\n\n"
        f"Batch {args.batch}, {args.heads} heads, hidden size {args.hidden}, {args.items} items, full histories; "
        f"medians of {args.repeats} processes of {args.steps} steps. {args.device}, {args.threads} threads, "
        f"{platform.machine()}, torch {version('torch')}; anomaly mode {'on' if args.anomaly else 'off'}. "
        f"In brackets: times the first row's.\n"
    )
    (RESULTS / f"{args.name}.md").write_text(about + "".join(map(table, sizes)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["SASRec", "AttnSASRec", "ACTSR", "ACTSR:preset=released"])
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
    args = parser.parse_args()
    if args.measure:
        sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
        print(json.dumps(measure(args.measure)))
        return
    sizes = [compare(args, layers, length) for layers in args.layers for length in args.lengths]
    write(args, sizes)
    print((RESULTS / f"{args.name}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
