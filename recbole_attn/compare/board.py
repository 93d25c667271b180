"""What is done, running and waiting: a live table on a terminal, one line for each event elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TextIO

from recbole_attn.compare.store import Store
from recbole_attn.compare.trials import Trial

_REDRAW, _REPORT = 1.0, 600.0  # seconds between tables on a terminal, between lines on what is running elsewhere
_STATES = ("done", "failed", "running", "waiting")


class Board:
    """Watches trials. Call it with those that are running.

    Args:
        wanted: those that this command runs; the others were finished before.
        at_once: how many run at one time.
        stage: the part of a comparison that they are, if there are others: time left is that of the part.
    """

    def __init__(
        self,
        store: Store,
        trials: Sequence[Trial],
        wanted: Sequence[Trial],
        at_once: int,
        stage: str = "",
        stream: TextIO | None = None,
    ):
        self._wanted = {trial.key for trial in wanted}
        self.store, self.trials, self.at_once, self.stage = store, list(trials), at_once, stage
        self.stream = sys.stderr if stream is None else stream
        self._live = self.stream.isatty()
        self._drawn, self._next = 0, 0.0 if self._live else monotonic() + _REPORT
        self._seconds: dict[str, float] = {}  # that finished trials took
        self._states = {trial.key: self._state(trial, ()) for trial in trials}
        if self._states and not self._live:
            self._say(self._summary())

    def __call__(self, running: Sequence[Trial]) -> None:
        keys = {trial.key for trial in running}
        before, self._states = self._states, {trial.key: self._state(trial, keys) for trial in self.trials}
        changed = [trial for trial in self.trials if self._states[trial.key] != before[trial.key]]
        if self._live:
            if changed or monotonic() >= self._next:
                self._redraw(running)
        else:
            for trial in changed:
                self._say(self._event(trial))
            if monotonic() >= self._next:
                self._next = monotonic() + _REPORT
                for line in [*(f"running  {_name(trial)}: {self._epoch(trial)}" for trial in running), self._summary()]:
                    self._say(line)

    def _state(self, trial: Trial, running) -> str:
        if trial.key in running:
            return "running"
        if trial.key in self._wanted and not self.store.started(trial):
            return "waiting"  # whatever is left of an earlier command
        if trial.key in self._seconds:
            return "done"
        if result := self.store.result(trial):
            self._seconds[trial.key] = result["seconds"]
            return "done"
        return "failed" if self.store.failure(trial) else "waiting"

    def _event(self, trial: Trial) -> str:
        state = self._states[trial.key]
        line = f"{state:<8} {_name(trial)}"
        if state == "failed":
            line += f": {self.store.failure(trial)}"
        if state == "done":
            result = self.store.result(trial) or {}
            line += f": {result['epochs']} epochs, {_duration(result['seconds'])}; {self._summary()}"
        return line

    def _redraw(self, running: Sequence[Trial]) -> None:
        self._next = monotonic() + _REDRAW
        columns, rows = shutil.get_terminal_size()
        # The cursor cannot go up beyond the screen: of a longer table, its end is drawn, what is running and the sum.
        lines = [line[: columns - 1] for line in self.lines(running)[-max(1, rows - 1) :]]
        up = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        self.stream.write(up + "".join(f"{line}\n" for line in lines))
        self.stream.flush()
        self._drawn = len(lines)

    def lines(self, running: Sequence[Trial]) -> list[str]:
        """The live table: a line for each row and data set, then one for each running trial, then the sum."""
        groups: dict[tuple[str, str], list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(_group(trial), []).append(trial)
        wide = max(len(row) for row, _ in groups)
        lines = [f"{row:<{wide}}  {dataset:<12} {self._counts(group)}" for (row, dataset), group in groups.items()]
        return [*lines, *(f"  {_name(trial)}: {self._epoch(trial)}" for trial in running), self._summary()]

    def _counts(self, trials: Sequence[Trial]) -> str:
        states = [self._states[trial.key] for trial in trials]
        return ", ".join(f"{states.count(state)} {state}" for state in _STATES if state in states)

    def _epoch(self, trial: Trial) -> str:
        progress = self.store.progress(trial)
        if not progress:
            return "starting"
        best = f"best {progress['best']:.4f} in epoch {progress['best_epoch'] + 1}"
        return f"epoch {progress['epoch']}, {best}, {progress['seconds_per_epoch']:.1f} s each"

    def _summary(self) -> str:
        left = self._left()
        of_stage = f" of {self.stage}" if self.stage else ""
        return self._counts(self.trials) + (f"; {left} left{of_stage}" if left else "")

    def _left(self) -> str:
        """How long the trials that run and wait will take.

        A row that has finished trials on a data set tells how long one takes, one whose first trials are running how
        long one takes at most, to its last epoch. Those that tell nothing yet are taken for the mean of the others.
        """
        took, limits = self._by_group("done", self._took), self._by_group("running", self._limit)
        known = {**limits, **took}
        unfinished = [trial for trial in self.trials if self._states[trial.key] in ("running", "waiting")]
        if not unfinished or not known:
            return ""
        mean = sum(known.values()) / len(known)
        seconds = sum(max(0.0, known.get(_group(trial), mean) - self._spent(trial)) for trial in unfinished)
        about = "at most" if limits.keys() - took.keys() else "about"
        return f"{about} {_duration(seconds / max(1, min(self.at_once, len(unfinished))))}"

    def _by_group(self, state: str, seconds: Callable[[Trial], float | None]) -> dict[tuple[str, str], float]:
        """(row, data set) -> mean of what `seconds` says of its trials in that state, where it says something."""
        found: dict[tuple[str, str], list[float]] = {}
        for trial in self.trials:
            if self._states[trial.key] == state and (value := seconds(trial)) is not None:
                found.setdefault(_group(trial), []).append(value)
        return {group: sum(values) / len(values) for group, values in found.items()}

    def _took(self, trial: Trial) -> float | None:
        return self._seconds.get(trial.key)

    def _limit(self, trial: Trial) -> float | None:
        progress = self.store.progress(trial)
        return progress["limit"] * progress["seconds_per_epoch"] if progress else None

    def _spent(self, trial: Trial) -> float:
        progress = self.store.progress(trial) if self._states[trial.key] == "running" else {}
        return progress["epoch"] * progress["seconds_per_epoch"] if progress else 0.0

    def _say(self, line: str) -> None:
        self.stream.write(f"{line}\n")
        self.stream.flush()


def _group(trial: Trial) -> tuple[str, str]:
    return trial.row, trial.dataset


def _name(trial: Trial) -> str:
    return f"{trial.row}, {trial.dataset}, seed {trial.seed}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
