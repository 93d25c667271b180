"""Trials on a cluster: a scheduler and two workers on this machine, in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from comparisons import arguments, results
from runs import mistake, write_chains

from recbole_attn.cli import main
from recbole_attn.compare.fingerprint import PACKAGE

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(folder, *arguments):
    """A Dask process of one thread."""
    command = [sys.executable, "-W", "ignore", "-m", "distributed.cli." + arguments[0], *arguments[1:]]
    return subprocess.Popen(command, env=ENVIRONMENT, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster(folder):
    """Address of the scheduler, and the two workers' processes."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = start(folder, "dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    plain = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
    workers = [start(folder, "dask_worker", address, *plain, "--name", f"w{number}") for number in range(2)]
    with distributed.Client(address, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
    yield address, workers
    for process in [*workers, scheduler]:
        process.kill()
        process.wait()


def test_a_cluster_runs_the_trials_and_survives_the_loss_of_a_worker(folder, cluster, capsys):
    address, workers = cluster
    command = arguments(folder, model="SASRec", seeds=3, epochs=60, stopping_step=60, engine="dask", address=address)

    def kill_a_worker_at_work():
        deadline = time.time() + 120
        while time.time() < deadline:
            for file in (folder / "results").glob("chains/*/training/last.pth"):
                if not (file.parents[1] / "result.json").exists():
                    os.kill(workers[0].pid, signal.SIGKILL)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_a_worker_at_work)
    killer.start()
    code = main(command)
    killer.join()
    assert workers[0].wait(timeout=5) == -signal.SIGKILL
    assert code == 0, capsys.readouterr().err
    assert sorted(results(folder)) == [("SASRec", 2020), ("SASRec", 2021), ("SASRec", 2022)]
    assert all(result["epochs"] == 60 for result in results(folder).values())


def test_a_cluster_without_workers_is_refused(folder, capsys):
    port = free_port()
    scheduler = start(folder, "dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    try:
        address = f"tcp://127.0.0.1:{port}"
        distributed.Client(address, timeout=60).close()
        line = mistake(arguments(folder, model="Pop,BPR", engine="dask", address=address), capsys)
        assert re.search("the cluster has no workers; start one with `dask worker tcp", line)
    finally:
        scheduler.kill()
        scheduler.wait()


def test_an_address_where_nobody_answers_is_refused(folder, capsys, monkeypatch):
    monkeypatch.setattr("recbole_attn.compare.cluster._PATIENCE", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    line = mistake(arguments(folder, model="Pop,BPR", engine="dask", address=address), capsys)
    assert f"address = {address}: no Dask scheduler answers there" in line
    assert not list((folder / "results").glob("chains/*/"))
