"""Run trials, each in a process of its own: one after another, or several at once on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from recbole_attn.compare.fingerprint import PACKAGE
from recbole_attn.compare.store import FAILURE, STOP, Store, finished, write_json
from recbole_attn.compare.trial import GPUS
from recbole_attn.compare.trials import Trial

_POLL = 0.2  # seconds
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # Dask sets all three to 1 in its workers
Watcher = Callable[[Sequence[Trial]], None]  # is told which trials are running


def run_here(store: Store, trials: Sequence[Trial], jobs: int, watch: Watcher) -> None:
    """Run every trial to its end or its failure, `jobs` at a time. Ctrl-C stops those that run."""
    threads = (os.cpu_count() or 1) // jobs if jobs > 1 and THREADS[0] not in os.environ else None
    waiting = list(trials)
    running: dict[str, tuple[Trial, subprocess.Popen]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                trial = waiting.pop(0)
                running[trial.key] = trial, start(store.prepare(trial), with_threads(threads))
            for trial, process in list(running.values()):
                if process.poll() is not None:
                    settle(store.of(trial), process.returncode)
                    del running[trial.key]
            watch([trial for trial, _ in running.values()])
            if running:
                time.sleep(_POLL)
    finally:
        _stop([process for _, process in running.values()])


def with_threads(number: float | None) -> dict[str, str]:
    """The environment in which a process computes on so many threads, at least one; None changes nothing."""
    return {} if number is None else dict.fromkeys(THREADS, str(max(1, int(number))))


def start(folder: Path, changes: Mapping[str, str] | None = None) -> subprocess.Popen:
    """A process for the trial of `folder`, in this environment with `changes`.

    RecBole's logs and what it prints go into the folder.
    """
    environment = {**os.environ, **(changes or {})}
    paths = [str(PACKAGE.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "recbole_attn.compare.trial", str(folder), str(os.getpid())],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def run_folder(folder: str, threads: float | None = None) -> None:
    """Run the trial of `folder` in a process of its own and wait for it: the task of a cluster's worker.

    The trial sees the GPUs that the worker was started with. It ends when its folder says so: Dask cannot interrupt a
    task, and a worker outlives the command, or its scheduler.
    """
    gpus = {GPUS: os.environ["CUDA_VISIBLE_DEVICES"]} if "CUDA_VISIBLE_DEVICES" in os.environ else {}
    process = start(Path(folder), {**with_threads(threads), **gpus})
    try:
        while process.poll() is None:
            if (Path(folder) / STOP).exists():
                return
            time.sleep(_POLL)
        settle(Path(folder), process.returncode)
    finally:
        _stop([process])


def settle(folder: Path, code: int) -> None:
    """Say why a trial failed whose process could not."""
    if not finished(folder) and not (folder / FAILURE).is_file():
        write_json(folder / FAILURE, {"reason": death(code)})


def death(code: int) -> str:
    """What the exit code of a process without a last word says."""
    if code >= 0:
        return f"its process ended with exit code {code}; see output.txt in its folder"
    name = signal.Signals(-code).name
    return f"its process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
