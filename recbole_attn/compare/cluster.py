"""Trials on an existing cluster of Dask: one task a trial, on a file system that all machines share.

Dask, not Ray: it is pure Python and installs beside any NumPy and PyTorch, while the newest Ray that RecBole admits
(2.6.3) can be imported neither with NumPy 2 nor with setuptools 82. Dask starts the task of a lost worker anew on
another one, and the trial then goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import inspect
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from recbole_attn.compare.schedule import Watcher, run_folder
from recbole_attn.compare.store import Store
from recbole_attn.compare.trials import Trial
from recbole_attn.errors import UserError

_POLL = 0.5  # seconds
_PATIENCE = 10  # seconds until a scheduler must have answered


class Cluster:
    """A cluster that answered.

    Args:
        address: of its scheduler.
        resources: what a trial takes of a worker, as its `dask worker --resources` names it, such as
            {"CPU": 4, "GPU": 1}. CPU is also the number of its threads.
    """

    def __init__(self, client, address: str, resources: dict[str, float] | None = None):
        self.client, self.address, self.resources = client, address, resources

    def run(self, store: Store, trials: Sequence[Trial], watch: Watcher) -> None:
        """Run every trial to its end or its failure. Those that run are stopped when this is interrupted.

        Only as many as can run at one time are handed out: Dask blames those that wait on a worker for its loss, too.

        Raises:
            UserError: the scheduler is gone.
        """
        waiting = list(trials)
        futures: dict[Any, Trial] = {}
        try:
            while waiting or futures:
                done = [future for future in futures if future.done()]
                self._require_scheduler(done)
                for future in done:
                    self._settle(store, futures.pop(future), future)
                busy = self._busy() if futures else set()
                while waiting and len(futures) < max(1, self.at_once):
                    trial = waiting.pop(0)
                    futures[self._submit(store, trial)] = trial
                watch([trial for future, trial in futures.items() if future.key in busy])
                if futures:
                    time.sleep(_POLL)
        finally:
            store.stop(futures.values())
            with contextlib.suppress(Exception):  # a scheduler that is gone has nothing left to cancel
                self.client.cancel(list(futures), force=True)

    @property
    def at_once(self) -> int:
        """How many trials the workers run at one time."""
        workers = self._ask(lambda: _workers(self.client))
        return sum(_room(worker, self.resources or {}) for worker in workers.values())

    def devices(self) -> frozenset[str]:
        """The types of device that the workers which can take a trial have.

        Raises:
            UserError: they lack PyTorch.
        """
        able = [name for name, worker in _workers(self.client).items() if _offers(worker, self.resources or {})]
        try:
            has_gpu = self.client.run(_has_gpu, workers=able)
        except ImportError as error:
            raise UserError(f"address = {self.address}: workers fail to import ({error}); install it there") from error
        return frozenset("cuda" if has else "cpu" for has in has_gpu.values())

    def _require_scheduler(self, done: Sequence[Any]) -> None:
        """Nobody but Dask cancels a task while it is waited for: when the connection is lost."""
        if self.client.status != "running" or any(future.status == "cancelled" for future in done):
            raise UserError(self._gone())

    def _busy(self) -> set[str]:
        """The keys of the tasks that workers have."""
        return {key for keys in self._ask(self.client.processing).values() for key in keys}

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The scheduler's answer.

        Raises:
            UserError: it is gone.
        """
        try:
            return question()
        except (OSError, AttributeError, RuntimeError) as error:  # of a client that Dask has closed
            raise UserError(self._gone()) from error

    def _gone(self) -> str:
        return f"the scheduler at {self.address} is gone; start it again, and the same command goes on"

    def _submit(self, store: Store, trial: Trial):
        key = f"{trial.key}-{uuid.uuid4().hex[:8]}"
        threads = (self.resources or {}).get("CPU")
        return self.client.submit(run_folder, str(store.prepare(trial)), threads, key=key, resources=self.resources)

    def _settle(self, store: Store, trial: Trial, future) -> None:
        if future.status != "finished" and not store.failure(trial):
            error = future.exception() if future.status == "error" else None
            what = f"{type(error).__name__}: {error}" if error else future.status
            store.fail(trial, f"lost on the cluster ({' '.join(what.split())})")


@contextlib.contextmanager
def connect(address: str | None, resources: dict[str, float] | None = None) -> Iterator[Cluster]:
    """The cluster whose scheduler is at `address`.

    Raises:
        UserError: resources that are no numbers, Dask is not installed, no address, nobody answers there, or no
            worker has the resources.
    """
    for name, amount in (resources or {}).items():
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not amount >= 0:
            raise UserError(f"resources.{name} = {amount!r}: must be a number from 0 up, as in {{{name}: 1}}")
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError("engine = dask: it is not installed; pip install 'dask[distributed]'") from error
    if not address:
        raise UserError("engine = dask: needs the address of its scheduler, as in --address=tcp://host:8786")
    try:
        client = Client(address, timeout=_PATIENCE)
    except (OSError, ValueError, TypeError, ImportError, RuntimeError) as error:  # TimeoutError is an OSError
        raise UserError(
            f"address = {address}: no Dask scheduler answers there ({' '.join(str(error).split())}); start one with "
            "`dask scheduler`, whose address begins with tcp://"
        ) from error
    with client:
        _require_workers(address, _workers(client), resources or {})
        yield Cluster(client, address, resources)


def _has_gpu() -> bool:
    """Does this process, a worker, see a GPU?"""
    import torch

    return torch.cuda.is_available()


def _offers(worker: dict[str, Any], resources: dict[str, float]) -> bool:
    return all(worker.get("resources", {}).get(name, 0) >= amount for name, amount in resources.items())


def _workers(client) -> dict[str, Any]:
    """All workers, by address. Dask lists the first five alone since it can be told how many."""
    can_be_told = "n_workers" in inspect.signature(client.scheduler_info).parameters
    return client.scheduler_info(**({"n_workers": -1} if can_be_told else {}))["workers"]


def _room(worker: dict[str, Any], resources: dict[str, float]) -> int:
    """How many trials a worker runs at one time: one a thread, as far as its resources reach."""
    offer = worker.get("resources", {})
    return int(min([worker["nthreads"], *(offer.get(name, 0) // need for name, need in resources.items() if need)]))


def _require_workers(address: str, workers: dict[str, Any], resources: dict[str, float]) -> None:
    """A task that no worker can take would wait for ever."""
    if not workers:
        raise UserError(f"address = {address}: the cluster has no workers; start one with `dask worker {address}`")
    if not any(_offers(worker, resources) for worker in workers.values()):
        offers = [worker.get("resources", {}) for worker in workers.values()]
        raise UserError(f"resources = {resources}: no worker of the cluster offers them; it has {offers}")
