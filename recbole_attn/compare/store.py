"""Results on disk: `results/<name>/<hash>/` holds one trial, whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from recbole_attn.compare.trials import Trial
from recbole_attn.errors import UserError
from recbole_attn.writing import write_atomically

RESULT, FAILURE, PROGRESS, SPECIFICATION, RANKS = (
    *("result.json", "failure.json", "progress.json"),
    *("trial.json", "ranks.npz"),
)
STOP = "stop"  # a file in a trial's folder that asks its process to end
LOCK = ".lock"  # a file that the process of a trial, or a command, holds while it is at work in the folder
_PATIENCE, _POLL = 15, 0.2  # seconds: until a trial must have ended, between two looks
BEST = "training/best.pth"
_BEFORE = ".before"  # ends the name of a finished trial's folder while the trial is run again
TOLD = (
    *("test", "valid", "best_epoch", "epochs", "stop_reason", "seconds_per_epoch", "parameters", "history", "settings"),
    *("config", "compared", "users", "test_seconds", "seconds", "tie_share", "remaining", "computed", "peak_memory"),
    *("machine", "data", "data_digest", "key"),
)  # by a result; one of another version of this program may lack some


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Name the folder in which something cannot be written.

    Raises:
        UserError: an OSError inside: no permission, a full disk ...
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"results = {folder}: cannot be written to ({error.strerror}); choose another, or make it writable"
        ) from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file of a trial or a comparison, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with writing(path.parent):
        write_atomically(path, json.dumps(values, indent=1, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """What a JSON file holds; None where there is none, or not all of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def finished(folder: Path) -> dict[str, Any] | None:
    """The result of the trial in `folder`; None where there is none, not all of one, or no ranks."""
    result = read_json(folder / RESULT)
    whole = isinstance(result, dict) and result.keys() >= set(TOLD) and zipfile.is_zipfile(folder / RANKS)
    return result if whole else None


class Store:
    """The folder of one comparison. Everything in it was made under one protocol.

    Raises:
        UserError: the folder cannot be written to, now or later.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self._started: set[str] = set()
        with writing(folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".{os.getpid()}.probe"
            probe.touch()
            probe.unlink()

    def of(self, trial: Trial) -> Path:
        return self.folder / trial.key

    def started(self, trial: Trial) -> bool:
        """Has this command begun with the trial, or taken it over?"""
        return trial.key in self._started

    def result(self, trial: Trial) -> dict[str, Any] | None:
        """The finished trial's result."""
        return finished(self.of(trial))

    def failure(self, trial: Trial) -> str | None:
        """Why the trial ended without a result."""
        return (read_json(self.of(trial) / FAILURE) or {}).get("reason")

    def waits(self, trial: Trial) -> bool:
        """Has the trial neither finished nor failed? It may be running."""
        return self.result(trial) is None and self.failure(trial) is None

    def progress(self, trial: Trial) -> dict[str, Any]:
        return read_json(self.of(trial) / PROGRESS) or {}

    def prepare(self, trial: Trial) -> Path:
        """The trial's folder with its specification in it and no failure; checkpoints stay.

        A trial that has finished and is run again begins anew; `settle_reruns` says what becomes of its first result.
        """
        folder = self.of(trial)
        with writing(folder):
            if finished(folder):
                folder.rename(folder.with_name(folder.name + _BEFORE))
            self._started.add(trial.key)
            folder.mkdir(exist_ok=True)
            write_json(folder / SPECIFICATION, trial._asdict())
            for name in (FAILURE, PROGRESS, STOP):
                (folder / name).unlink(missing_ok=True)
        return folder

    def stop(self, trials: Iterable[Trial]) -> None:
        """Ask the processes of trials to end, wherever they run, and wait for it, but not for ever."""
        folders = [self.of(trial) for trial in trials]
        for folder in folders:
            with contextlib.suppress(OSError):
                (folder / STOP).touch()
        end = time.monotonic() + _PATIENCE
        while any(map(_is_held, folders)) and time.monotonic() < end:
            time.sleep(_POLL)

    def adopt(self, trial: Trial) -> None:
        """Take over a trial that another comparison beside this one has finished: what it found, and its best epoch."""
        for other in self._beside(trial):
            if self.result(trial) is None and finished(other) is not None:
                folder = self.prepare(trial)
                with writing(folder):
                    (folder / BEST).parent.mkdir(exist_ok=True)
                    for name in (BEST, RANKS, RESULT):
                        if (other / name).exists():
                            write_atomically(folder / name, (other / name).read_bytes())

    def found(self, trial: Trial) -> bool:
        """Has this comparison, or one beside it that `adopt` would ask, finished the trial?"""
        return any(finished(folder) is not None for folder in self._beside(trial))

    def _beside(self, trial: Trial) -> list[Path]:
        return sorted(self.folder.parent.glob(f"*/{trial.key}"))

    def fail(self, trial: Trial, reason: str) -> None:
        """Note why the trial has no result, for a process that could not."""
        write_json(self.of(trial) / FAILURE, {"reason": reason})

    def settle_reruns(self) -> dict[str, str]:
        """Of trials that were run again, drop the first result where there is a second one, and else restore it.

        Returns the keys of those that were restored, and why there is no second result.
        """
        restored = {}
        with writing(self.folder):
            for before in self.folder.glob(f"*{_BEFORE}"):
                folder = before.with_name(before.name.removesuffix(_BEFORE))
                if finished(folder):
                    shutil.rmtree(before)
                else:
                    restored[folder.name] = (read_json(folder / FAILURE) or {}).get("reason", "it did not end")
                    shutil.rmtree(folder, ignore_errors=True)
                    before.rename(folder)
        return restored

    def check_protocol(self, trials: list[Trial]) -> None:
        """Note the protocol of each data set, or compare it with the one that was noted.

        Raises:
            UserError: rows with different protocols, or a folder made under another one, or under one that nobody can
                tell any more.
        """
        file = self.folder / "protocol.json"
        earlier: Any = read_json(file) if file.is_file() else {}
        if not isinstance(earlier, dict) or not all(isinstance(noted, dict) for noted in earlier.values()):
            raise UserError(
                f"{file} is damaged; delete it if its trials were made as asked now, or choose another --name"
            )
        noted = dict(earlier)
        for trial in trials:
            asked = json.loads(json.dumps(trial.protocol))
            known = noted[trial.dataset] = {**asked, **noted.get(trial.dataset, {})}
            for name, value in asked.items():
                if known[name] != value:
                    there = name in earlier.get(trial.dataset, {})
                    raise UserError(self._contradiction(trial, name, known[name], value, there))
        if noted != earlier:
            write_json(file, noted)

    def _contradiction(self, trial: Trial, name: str, known: Any, value: Any, there: bool) -> str:
        if there:
            return (
                f"{self.folder} holds results of another protocol: {name} = {known} there, {value} here; "
                "choose another --name"
            )
        return f"row {trial.row}: {name} = {value}, but {known} in the other rows; all rows need the same"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second command.

        Raises:
            UserError: another command holds it.
        """
        with writing(self.folder):
            lock = (self.folder / LOCK).open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(f"another command is at work in {self.folder}; wait for it to end") from error
            yield


def _is_held(folder: Path) -> bool:
    """Is a process at work in the folder?"""
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nothing can be asked of it
        return False
    return False
