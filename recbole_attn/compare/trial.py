"""One trial in a process of its own: `python -m recbole_attn.compare.trial FOLDER PARENT`.

It ends with its parent, whose process number is PARENT. The folder holds trial.json. What comes out is
ranks.npz and then, as the last word, result.json; or failure.json.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import torch
from recbole.utils import ModelType
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from recbole_attn import protocol
from recbole_attn.compare.distributed import join, share, with_sharing
from recbole_attn.compare.fingerprint import data_digest, fingerprint
from recbole_attn.compare.machine import commit, machine, peak_memory
from recbole_attn.compare.ranks import Context, RankCollector
from recbole_attn.compare.store import (
    FAILURE,
    LOCK,
    PROGRESS,
    RANKS,
    RESULT,
    SPECIFICATION,
    finished,
    read_json,
    write_json,
)
from recbole_attn.compare.trials import resolved
from recbole_attn.compile_errors import could_not_compile, is_of_compiler
from recbole_attn.config.layers import Layer
from recbole_attn.config.settings import load_settings
from recbole_attn.errors import UserError
from recbole_attn.run import begin, load, make_trainer, result_of
from recbole_attn.trainer import with_checkpoints
from recbole_attn.writing import write_atomically

# Which GPUs a worker of a cluster lets its trials see: RecBole overwrites CUDA_VISIBLE_DEVICES with its gpu_id.
GPUS = "RECBOLE_ATTN_GPUS"


def main(folder: Path) -> int:
    """Run the trial of `folder` unless it is done. Returns 0, or 1 after writing failure.json."""
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the process of a command that was killed may still be at it
        if finished(folder):
            return 0
        commit()  # of the code that is imported now; the record is written when the trial ends
        try:
            require_unchanged(folder)
            execute(folder)
        except (Exception, KeyboardInterrupt) as error:
            traceback.print_exc()
            write_json(folder / FAILURE, {"reason": reason(error)})
            return 1
    return 0


def require_unchanged(folder: Path) -> None:
    """The hash that the trial is kept under must be that of the settings, the code and the data it finds.

    Raises:
        UserError: they were changed since the command began.
    """
    specification: dict[str, Any] = read_json(folder / SPECIFICATION) or {}
    config = _load(specification)
    found = {**resolved(config), "device": specification["config"]["device"]}  # what it is, `execute` looks at
    if fingerprint(specification["model"], found, Path(config["data_path"])) != specification["key"]:
        raise UserError("code, data or property files were changed since this command began; give it again")


def reason(error: BaseException) -> str:
    """One line on why a trial failed."""
    while isinstance(error, UserError) and isinstance(error.__cause__, UserError):
        error = error.__cause__  # without the trainer's advice: here the same command goes on
    text = " ".join(str(error).split())
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "DefaultCPUAllocator" in text:
        return f"out of memory: {text}".rstrip(": ")
    if isinstance(error, UserError):
        return text
    if is_of_compiler(error):
        return could_not_compile(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def execute(folder: Path) -> None:
    """Train to the end, from the last checkpoint where there is one, test, and write what came out."""
    specification = read_json(folder / SPECIFICATION) or {}
    config = configure(specification, folder)
    planned = specification["config"]["device"]
    if config["device"].type != planned:
        raise UserError(f"this process computes on {config['device'].type}, not on {planned}, as it was to")
    processes = config["nproc"] or 1
    if processes == 1:
        execute_as(0, folder)
        return
    (folder / "meeting").unlink(missing_ok=True)
    try:
        torch.multiprocessing.spawn(_spawned, (folder,), nprocs=processes)
    except (ProcessRaisedException, ProcessExitedException) as error:
        raise UserError(last_words(str(error))) from error


def _spawned(rank: int, folder: Path) -> None:
    try:
        execute_as(rank, folder)
    except UserError as error:
        raise UserError(reason(error)) from None


def last_words(report: str) -> str:
    """What a process said last, out of the traceback that torch hands over."""
    line = report.strip().splitlines()[-1]
    return line.partition("UserError: ")[2] or line


def execute_as(rank: int, folder: Path) -> None:
    """The part of process `rank`; the first one tests and writes."""
    specification: dict[str, Any] = read_json(folder / SPECIFICATION) or {}
    config = configure(specification, folder)
    begin(config)
    several = (config["nproc"] or 1) > 1
    if several:
        join(config, rank, folder)
    dataset = load(config)
    context = Context(dataset)
    train, valid, test = protocol.loaders(config, dataset)
    context.hold_out(valid.dataset, test.dataset)
    last = Path(config["checkpoint_dir"]) / "last.pth"
    resume = str(last) if last.is_file() else None
    trainer = make_trainer(config, train.dataset, resume, with_sharing if several else with_checkpoints)
    shown = partial(report_progress, folder, trainer) if rank == 0 else None
    trainer.fit(share(config, train) if several else train, valid, callback_fn=shown)
    if rank == 0:
        finish(folder, specification, trainer, (train, valid, test), context)
        last.unlink(missing_ok=True)


def finish(folder: Path, specification: dict[str, Any], trainer, loaders: tuple, context: Context) -> None:
    """Test the best epoch and write ranks.npz, then result.json."""
    config, test = trainer.config, loaders[2]
    collector = trainer.eval_collector = RankCollector(config)
    start = time.perf_counter()
    metrics = trainer.evaluate(test)
    seconds = time.perf_counter() - start - collector.seconds
    ranks = collector.ranks(test, context)
    write_atomically(folder / RANKS, ranks.to_bytes())
    result = result_of(config, trainer, metrics, ranks.tie_share)._asdict()
    result["history"] = [epoch._asdict() for epoch in trainer.history]
    result["checkpoint"] = os.path.relpath(result["checkpoint"], folder)
    write_json(
        folder / RESULT,
        {
            **{name: specification[name] for name in ("row", "seed", "key", "settings", "compared", "config")},
            **result,
            "users": len(ranks.user),
            "test_seconds": seconds,
            "seconds": sum(e.train_seconds + (e.valid_seconds or 0) for e in trainer.history) + seconds,
            "remaining": protocol.remaining(config),
            "computed": is_computed(config),
            "peak_memory": peak_memory(),
            "machine": machine(config),
            "data": describe_data(*loaders),
            "data_digest": data_digest(Path(config["data_path"])),
            "semantic_ids": getattr(trainer.model, "semantic_report", None),
        },
    )


def configure(specification: dict[str, Any], folder: Path):
    """The Config that a trial runs with."""
    config = _load(specification)
    config["checkpoint_dir"] = str(folder / "training")
    if is_computed(config):
        config["nproc"] = 1  # it counts what it sees, which would be its share
    return config


def _load(specification: dict[str, Any]):
    """The settings of a trial as they come out here; nothing in them is drawn on a screen."""
    settings = {**specification["settings"], "show_progress": False}
    if GPUS in os.environ and settings.get("gpu_id") != "":  # which asks for the CPU
        settings["gpu_id"] = os.environ[GPUS]
    return load_settings(specification["model"], specification["dataset"], layers=[Layer("trial", settings)]).config


def is_computed(config) -> bool:
    """Is the model computed in one pass over the data, such as Pop, rather than trained?"""
    return config["MODEL_TYPE"] == ModelType.TRADITIONAL


def report_progress(folder: Path, trainer, epoch: int, score: float) -> None:
    """Say how far training is, for whoever draws the live table."""
    spent = [record.train_seconds + (record.valid_seconds or 0) for record in trainer.history]
    write_json(
        folder / PROGRESS,
        {
            "epoch": epoch + 1,
            "best": trainer.best_valid_score,
            "best_epoch": trainer.best_epoch,
            "limit": trainer.epochs,
            "seconds_per_epoch": sum(spent) / len(spent),
        },
    )


def describe_data(train, valid, test) -> dict[str, Any]:
    """Sizes of the data as this trial saw it, padding not counted."""
    dataset = train.dataset
    return {
        "users": dataset.user_num - 1,
        "items": dataset.item_num - 1,
        "training rows": len(train.dataset),
        "validation rows": len(valid.dataset),
        "test rows": len(test.dataset),
    }


def leave_with(parent: int) -> None:
    """End this process when the one that started it is gone, so that nobody trains unseen."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    leave_with(int(sys.argv[2]))
    sys.exit(main(Path(sys.argv[1]).resolve()))
