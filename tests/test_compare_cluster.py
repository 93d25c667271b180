"""Trials on a cluster: a scheduler and two workers on this machine, in processes of their own."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from comparisons import arguments, options, results
from runs import PATIENCE, mistake, write_chains

from recbole_attn.cli import main
from recbole_attn.compare.cluster import Cluster, connect
from recbole_attn.compare.fingerprint import PACKAGE
from recbole_attn.compare.plan import read_plan
from recbole_attn.compare.schedule import THREADS, run_folder
from recbole_attn.compare.store import LOCK, Store, _is_held
from recbole_attn.compare.trial import GPUS, configure
from recbole_attn.compare.trials import trials_of
from recbole_attn.errors import UserError

distributed = pytest.importorskip("distributed")
slow = pytest.mark.slow

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
    """Address of the scheduler, the two workers' processes, and its own."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = start(folder, "dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    plain = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
    workers = [start(folder, "dask_worker", address, *plain, "--name", f"w{number}") for number in range(2)]
    with distributed.Client(address, timeout=PATIENCE) as client:
        client.wait_for_workers(2, timeout=PATIENCE)
    yield address, workers, scheduler
    for process in [*workers, scheduler]:
        process.kill()
        process.wait()


@slow
def test_a_cluster_runs_the_trials_and_survives_the_loss_of_a_worker(folder, cluster, capsys):
    address, workers, _ = cluster
    command = arguments(folder, model="SASRec", seeds=2, epochs=60, stopping_step=60, engine="dask", address=address)

    ended = threading.Event()

    def kill_a_worker_at_work():
        while not ended.is_set():
            for file in (folder / "results").glob("chains/*/training/last.pth"):
                if not (file.parents[1] / "result.json").exists():
                    os.kill(workers[0].pid, signal.SIGKILL)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_a_worker_at_work)
    killer.start()
    try:
        code = main(command)
    finally:
        ended.set()
        killer.join()
    assert workers[0].wait(timeout=5) == -signal.SIGKILL
    assert code == 0, capsys.readouterr().err
    assert sorted(results(folder)) == [("SASRec", 2020), ("SASRec", 2021)]
    assert all(result["epochs"] == 60 for result in results(folder).values())


@slow
def test_a_cluster_without_workers_is_refused(folder, capsys):
    port = free_port()
    scheduler = start(folder, "dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    try:
        address = f"tcp://127.0.0.1:{port}"
        distributed.Client(address, timeout=PATIENCE).close()
        line = mistake(arguments(folder, model="Pop,BPR", engine="dask", address=address), capsys)
        assert re.search("the cluster has no workers; start one with `dask worker tcp", line)
    finally:
        scheduler.kill()
        scheduler.wait()


@slow
def test_an_address_where_nobody_answers_is_refused(folder, capsys, monkeypatch):
    monkeypatch.setattr("recbole_attn.compare.cluster._PATIENCE", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    line = mistake(arguments(folder, model="Pop,BPR", engine="dask", address=address), capsys)
    assert f"address = {address}: no Dask scheduler answers there" in line
    assert not list((folder / "results").glob("chains/*/"))


@slow
def test_a_scheduler_that_dies_ends_the_command_in_one_line_and_leaves_finished_trials(
    folder, cluster, capsys, monkeypatch
):
    address, _, scheduler = cluster
    endless = {"seeds": 1, "epochs": 10**6, "stopping_step": 10**6}
    assert main(arguments(folder, model="Pop", **endless)) == 0
    (finished,) = (folder / "results").glob("chains/*/result.json")
    before = finished.read_bytes(), finished.stat().st_mtime_ns

    def kill_once_a_trial_is_at_work(seconds):
        begun = set((folder / "results").glob("chains/*/progress.json"))
        if begun - {finished.with_name("progress.json")}:
            scheduler.kill()
        time.sleep(seconds)

    monkeypatch.setattr("recbole_attn.compare.cluster.time", SimpleNamespace(sleep=kill_once_a_trial_is_at_work))
    line = mistake(arguments(folder, model="Pop,SASRec", engine="dask", address=address, **endless), capsys)
    assert line == f"error: the scheduler at {address} is gone; start it again, and the same command goes on"
    assert (finished.read_bytes(), finished.stat().st_mtime_ns) == before
    assert not list((folder / "results").glob("chains/*/failure.json"))
    (unfinished,) = (file.parent for file in (folder / "results").glob("chains/*/stop"))
    assert not _is_held(unfinished)  # the worker, which lives on, has ended the endless trial


class Task(NamedTuple):
    key: str
    cancelled: bool
    status = "cancelled"

    def done(self):
        return self.cancelled


class Dying:
    """A client whose scheduler goes away while it is asked, and which Dask then closes."""

    status = "running"

    def __init__(self, cancels):
        self.cancels = cancels

    def submit(self, *_, key, **__):
        return Task(key, self.cancels)

    def scheduler_info(self):
        return {"workers": {"w0": {"nthreads": 1}}}

    def processing(self):
        raise distributed.comm.core.CommClosedError("in <TCP>: Stream is closed")

    def cancel(self, *_, **__):
        raise RuntimeError("Client is closed")


@pytest.mark.parametrize("cancels", [True, False], ids=["tasks are cancelled", "the question fails"])
def test_a_lost_scheduler_is_no_failure_of_its_trials(folder, cancels):
    plan = read_plan(options(folder, model="Pop", seeds=1))
    trials = trials_of(plan, plan.rows[0])
    store = Store(folder / "results" / "chains")
    with pytest.raises(UserError, match="the scheduler at tcp://host:8786 is gone"):
        Cluster(Dying(cancels), "tcp://host:8786").run(store, trials, lambda running: None)
    assert store.failure(trials[0]) is None


class Ending:
    """A task that has finished when its key is in `ended`."""

    status = "finished"

    def __init__(self, key, ended):
        self.key, self.done = key, lambda: key in ended


class Counting(Dying):
    """A client of three workers, whose tasks end one after the other."""

    def __init__(self):
        self.running, self.ended, self.most = [], set(), 0

    def submit(self, *_, key, **__):
        self.running.append(key)
        self.most = max(self.most, len(self.running))
        return Ending(key, self.ended)

    def scheduler_info(self):
        return {"workers": {f"w{number}": {"nthreads": 1} for number in range(3)}}

    def processing(self):
        found = {"w0": list(self.running)}
        self.ended.add(self.running.pop(0))
        return found

    def cancel(self, *_, **__):
        pass


def test_no_more_trials_are_handed_out_than_run_at_one_time(folder, monkeypatch):
    monkeypatch.setattr("recbole_attn.compare.cluster._POLL", 0)
    plan = read_plan(options(folder, model="Pop", seeds=8))
    trials, client, running = trials_of(plan, plan.rows[0]), Counting(), []
    Cluster(client, "tcp://host:8786").run(Store(folder / "results" / "chains"), trials, running.append)
    assert client.most == 3
    assert {trial.seed for some in running for trial in some} == {trial.seed for trial in trials}


def test_the_task_of_a_worker_ends_when_its_folder_says_so(folder, monkeypatch):
    plan = read_plan(options(folder, model="Pop", seeds=1))
    (trial,) = trials_of(plan, plan.rows[0])
    store = Store(folder / "results" / "chains")
    endless = subprocess.Popen(["sleep", "600"])
    monkeypatch.setattr("recbole_attn.compare.schedule.start", lambda *_: endless)
    where = store.prepare(trial)
    threading.Timer(0.5, store.stop, [[trial]]).start()
    run_folder(str(where))
    assert endless.returncode == -signal.SIGTERM
    assert store.failure(trial) is None
    store.prepare(trial)
    assert not (where / "stop").exists()


def test_a_stop_waits_for_the_process_that_holds_the_folder(folder):
    plan = read_plan(options(folder, model="Pop", seeds=1))
    (trial,) = trials_of(plan, plan.rows[0])
    store = Store(folder / "results" / "chains")
    lock = (store.prepare(trial) / LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(0.5, lock.close).start()
    begun = time.monotonic()
    store.stop([trial])
    assert 0.4 < time.monotonic() - begun < 10


class Stub:
    """A client of Dask 2023.5, whose scheduler_info takes no arguments."""

    def __init__(self, address, timeout):
        self.workers = {f"w{number}": {"nthreads": 1, "resources": {"GPU": number == 6}} for number in range(7)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def scheduler_info(self):
        return {"workers": self.workers}


class Newer(Stub):
    def scheduler_info(self, n_workers=5):
        return {"workers": dict(list(self.workers.items())[: None if n_workers == -1 else n_workers])}


@pytest.mark.parametrize("client", [Stub, Newer])
def test_resources_are_looked_for_on_all_workers_whatever_the_version_of_dask(client, monkeypatch):
    monkeypatch.setattr(distributed, "Client", client)
    with connect("tcp://host:8786", {"GPU": 1}) as cluster:
        assert cluster.resources == {"GPU": 1}
        assert cluster.at_once == 1


@pytest.mark.parametrize(
    ("resources", "at_once"), [(None, 12), ({"CPU": 4}, 4), ({"CPU": 3, "GPU": 1}, 2), ({"GPU": 0}, 12)]
)
def test_trials_at_one_time_are_as_many_as_threads_and_resources_of_the_workers_allow(resources, at_once):
    offers = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 2.0}]
    workers = {f"w{number}": {"nthreads": 4, "resources": offer} for number, offer in enumerate(offers)}
    client = SimpleNamespace(scheduler_info=lambda: {"workers": workers})
    assert Cluster(client, "tcp://host:8786", resources).at_once == at_once


@pytest.mark.parametrize("use_gpu", [True, False])
@pytest.mark.parametrize(
    ("gpus", "resources", "device"),
    [("11", None, "cuda"), ("00", None, "cpu"), ("01", {"GPU": 1}, "cuda"), ("01", {"CPU": 1}, None)],
)
def test_trials_are_planned_for_the_device_of_the_workers_that_can_take_them(folder, gpus, resources, device, use_gpu):
    workers = {
        f"w{number}": {"nthreads": 1, "resources": {"CPU": 1, "GPU": int(gpu)}} for number, gpu in enumerate(gpus)
    }
    client = SimpleNamespace(
        scheduler_info=lambda: {"workers": workers},
        run=lambda ask, workers: {name: gpus[int(name[1:])] == "1" for name in workers},
    )
    plan = read_plan(options(folder, model="Pop", seeds=1, use_gpu=use_gpu))
    plan = plan._replace(devices=Cluster(client, "tcp://host:8786", resources).devices())
    if device is None and use_gpu:
        with pytest.raises(UserError, match="some workers of the cluster have a GPU and some have none"):
            trials_of(plan, plan.rows[0])
    else:
        assert trials_of(plan, plan.rows[0])[0].config["device"] == (device if use_gpu else "cpu")


def test_a_trial_on_a_cluster_has_the_threads_it_asks_for_and_the_gpus_of_its_worker(folder, monkeypatch):
    plan = read_plan(options(folder, model="Pop", seeds=1, use_gpu=True))
    (trial,) = trials_of(plan, plan.rows[0])
    store = Store(folder / "results" / "chains")
    submitted = []
    client = SimpleNamespace(submit=lambda function, *arguments, **_: submitted.append((function, arguments)))
    Cluster(client, "tcp://host:8786", {"CPU": 3, "GPU": 1})._submit(store, trial)
    ((function, arguments),) = submitted
    for name in THREADS:
        monkeypatch.setenv(name, "1")  # as Dask sets it in its workers
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    found = {}

    def popen(command, env, **_):
        found.update(env)
        return SimpleNamespace(returncode=1, wait=lambda timeout=None: 1, poll=lambda: 1)

    monkeypatch.setattr("recbole_attn.compare.schedule.subprocess.Popen", popen)
    function(*arguments)
    assert [found[name] for name in THREADS] == ["3", "3", "3"]
    monkeypatch.setenv(GPUS, found[GPUS])
    config = configure(trial._asdict(), store.of(trial))
    assert config["gpu_id"] == os.environ["CUDA_VISIBLE_DEVICES"] == "5"  # RecBole would have made it 0


def test_a_trial_that_the_cluster_lost_has_a_reason(folder):
    plan = read_plan(options(folder, model="Pop", seeds=1))
    (trial,) = trials_of(plan, plan.rows[0])
    store = Store(folder / "results" / "chains")
    store.prepare(trial)
    Cluster(None, "tcp://host:8786")._settle(
        store, trial, SimpleNamespace(status="error", exception=lambda: OSError("no\nroute"))
    )
    assert store.failure(trial) == "lost on the cluster (OSError: no route)"
