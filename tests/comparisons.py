"""Small comparisons for tests: trials are forked from the test's process, which saves their imports."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import torch
import torch._dynamo  # every optimiser imports it: once here rather than in each fork
from atomic_files import write
from runs import HEADER, SMALL

from recbole_attn.compare import schedule, trial
from recbole_attn.compare.command import compare
from recbole_attn.compare.store import TOLD, write_json
from recbole_attn.config.command_line import parse_command_line

TINY = {
    **{key: SMALL[key] for key in ("epochs", "train_batch_size", "show_progress", "use_gpu", "state")},
    "MAX_ITEM_LIST_LENGTH": 5,
}
SMALL_ATTENTION = {"hidden_size": 8, "inner_size": 8}  # for comparisons in which some row has it


class Forked:
    """What the schedule needs of a Popen, for a trial in a fork of this process."""

    def __init__(self, folder):
        self.returncode = None
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                os.chdir(folder)
                with open("output.txt", "ab") as output:
                    os.dup2(output.fileno(), 1)
                    os.dup2(output.fileno(), 2)
                torch.set_num_threads(1)
                code = trial.main(folder)
            finally:
                os._exit(code)

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)

    kill = terminate


def fork_trials(monkeypatch):
    """Have trials forked. Returns the list of folders that are started from now on."""
    started = []

    def start(folder, changes=None):
        started.append(folder)
        return Forked(folder)

    monkeypatch.setattr(schedule, "start", start)
    monkeypatch.setattr(schedule, "_POLL", 0.01)
    return started


def arguments(folder, **settings):
    """The command line of a small comparison of the data in `folder`."""
    attention = (
        SMALL_ATTENTION if "SASRec" in str(settings.get("model")) or "AWRSR" in str(settings.get("model")) else {}
    )
    values = {**TINY, **attention, "data_path": folder, "results": folder / "results", "dataset": "chains", **settings}
    return [f"--{key}={value}" for key, value in values.items()]


def options(folder, **settings):
    """The same, parsed."""
    return parse_command_line(arguments(folder, **settings))


def run(folder, **settings):
    """Run a comparison; returns what it prints and how many trials failed."""
    return compare(options(folder, **settings))


def results(folder, name="chains"):
    """Row and seed -> result, of all finished trials."""
    found = [json.loads(file.read_text()) for file in (folder / "results" / name).glob("*/result.json")]
    return {(result["row"], result["seed"]): result for result in found}


def write_timed(folder, rows, name="timed"):
    """A data set from (user, item, time)."""
    write(folder, [HEADER, *rows], name=name)


def write_result(store, trial, **values):
    """Have a trial finished, with nothing in its result but `values`."""
    np.savez(store.prepare(trial) / "ranks.npz")
    write_json(store.of(trial) / "result.json", {**dict.fromkeys(TOLD), **values})
