"""One measurement of `epochs.py`, in this process: preparation, some training steps, an evaluation.

A row is `MODEL[@WAY][:setting=value,...]`. The ways are `released` (RecBole's own path, with the anomaly mode that
importing it turns on), `recbole` (the same without it) and, where none is given, this package's path.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import resource
import time
from pathlib import Path
from typing import Any, NamedTuple

CLEAR = Path("/proc/self/clear_refs")
COMPILING = 20  # steps in which torch.compile meets the shapes of batches, and settles on dynamic ones


class Row(NamedTuple):
    """What to measure."""

    model: str
    way: str
    settings: dict[str, str]


def parse(text: str) -> Row:
    """A row as the command line has it."""
    name, _, changes = text.partition(":")
    model, _, way = name.partition("@")
    return Row(model, way or "plugin", dict(pair.split("=") for pair in changes.split(",") if pair))


class Stopwatch(contextlib.AbstractContextManager):
    """Seconds spent inside, GPU included."""

    def __init__(self, device):
        self.seconds, self.device = 0.0, device

    def __enter__(self):
        self.wait()
        self.start = time.perf_counter()

    def __exit__(self, *_):
        self.wait()
        self.seconds += time.perf_counter() - self.start

    def wait(self):
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def around(self, function):
        def timed(*args, **kwargs):
            with self:
                return function(*args, **kwargs)

        return timed


class Steps:
    """The first batches of a loader, each taken within `watch`; all else is the loader's."""

    def __init__(self, loader, steps: int, watch: contextlib.AbstractContextManager):
        self.loader, self.steps, self.watch = loader, steps, watch
        self.taken = 0

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def __len__(self):
        return min(self.steps, len(self.loader))

    def __iter__(self):
        batches = iter(self.loader)
        while self.taken < self.steps:
            with self.watch:
                batch = next(batches, None)
            if batch is None:
                return
            self.taken += 1
            yield batch


def measure(spec: dict[str, Any]) -> dict[str, float]:
    """Seconds and peak MiB of each phase; `epoch_s` is extrapolated from the steps where the epoch has more."""
    importlib.import_module("recbole_attn")  # first of all: it mends RecBole
    import torch

    row = parse(spec["row"])
    torch.set_num_threads(spec["threads"])
    config = configure(row, spec)
    base = resident()
    found: dict[str, float] = {}
    with Phase(found, "prepare", base, config["device"]):
        train, _, test = ours(config) if row.way == "plugin" else recboles(config)
    trainer, epoch = build(row, config, train)
    if row.way == "released":
        torch.autograd.set_detect_anomaly(True)
    warm_up = max(spec["warm_up"], COMPILING) if "compile" in row.settings else spec["warm_up"]
    epoch(Steps(train, warm_up, Stopwatch(config["device"])))
    count = spec["bucket_steps" if "length_buckets" in row.settings else "steps"]
    steps, whole_s = Steps(train, count, contextlib.nullcontext()), None
    if config["device"].type == "cuda":  # where stopwatches wait for the GPU, which training does not
        with Phase(found, "train", base, config["device"]):
            epoch(steps)
        whole_s = found["train_s"]
    data, forward = Stopwatch(config["device"]), Stopwatch(config["device"])
    steps = Steps(train, count, data)
    trainer.model.calculate_loss = forward.around(trainer.model.calculate_loss)
    with Phase(found, "train", base, config["device"]):
        epoch(steps)
    slower = 1 if whole_s is None else found["train_s"] / whole_s  # shares are those of the watched steps
    found.update(train_s=found["train_s"] / slower, data_s=data.seconds / slower, forward_s=forward.seconds / slower)
    found.update(epoch_s=found["train_s"] * len(train) / steps.taken, steps_per_s=steps.taken / found["train_s"])
    found.update(steps=steps.taken, of_steps=len(train))
    with Phase(found, "eval", base, config["device"]):
        trainer.evaluate(test, load_best_model=False)
    return found


class Phase:
    """Notes the seconds and the peak memory of what is done inside."""

    def __init__(self, found: dict[str, float], name: str, base: float, device):
        self.found, self.name, self.base, self.device, self.watch = found, name, base, device, Stopwatch(device)

    def __enter__(self):
        reset_peak(self.device)
        self.watch.__enter__()

    def __exit__(self, *_):
        self.watch.__exit__()
        self.found[f"{self.name}_s"] = self.watch.seconds
        self.found[f"{self.name}_mib"] = peak(self.device, self.base)


def configure(row: Row, spec: dict[str, Any]):
    from recbole_attn.config.settings import load_settings

    values = {"show_progress": False, "state": "ERROR", "use_gpu": spec["device"] == "cuda", **spec["settings"]}
    values.update(data_path=spec["data_path"], checkpoint_dir=spec["scratch"], **row.settings)
    return load_settings(row.model, spec["dataset"], config_dict=values).config


def recboles(config):
    from recbole.data import create_dataset, data_preparation

    return data_preparation(config, create_dataset(config))


def ours(config):
    from recbole_attn import protocol
    from recbole_attn.run import begin

    begin(config)
    return protocol.loaders(config, protocol.load(config))


def build(row: Row, config, train):
    """The trainer, and what trains an epoch."""
    from recbole.trainer import Trainer
    from recbole.utils import get_model, init_seed

    from recbole_attn.progress import WatchedTrainer
    from recbole_attn.run import make_trainer

    if row.way == "plugin":
        trainer = make_trainer(config, train.dataset)
        return trainer, lambda data: WatchedTrainer._train_epoch(trainer, data, 0)
    init_seed(config["seed"], config["reproducibility"])
    trainer = Trainer(config, get_model(row.model)(config, train.dataset).to(config["device"]))
    return trainer, lambda data: Trainer._train_epoch(trainer, data, 0)


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def reset_peak(device) -> None:
    """On Linux; elsewhere a phase shows the peak of those before it, too."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR.exists():
        ctypes.CDLL(None).malloc_trim(0)  # what the phase before gave back, and the allocator kept, is not this one's
        CLEAR.write_text("5")


def peak(device, base: float) -> float:
    """MiB: on a GPU of what PyTorch allocated; else of the process, above what it held after its imports."""
    import torch

    from recbole_attn.memory import peak_resident

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_resident() / 2**20 - base
