"""The comparison as one command: plan, run what is missing, report."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from recbole_attn.compare.board import Board
from recbole_attn.compare.cluster import connect
from recbole_attn.compare.grid import Candidate, choose, grids
from recbole_attn.compare.outcome import check_labels, gather
from recbole_attn.compare.plan import Plan, read_plan
from recbole_attn.compare.report import write_report
from recbole_attn.compare.report.terminal import terminal
from recbole_attn.compare.schedule import run_here
from recbole_attn.compare.store import Store
from recbole_attn.compare.trials import Trial, check_data, check_devices, trials_of
from recbole_attn.config.command_line import run_options
from recbole_attn.config.layers import Layer
from recbole_attn.errors import UserError


class Runner(NamedTuple):
    """What runs trials, how many at one time, what refuses trials that it could not run, and the types of device there.

    `devices` is None for this machine's.
    """

    run: Callable[..., None]
    at_once: int
    check: Callable[[Sequence[Trial]], None]
    devices: frozenset[str] | None = None


def compare(options: Mapping[str, Any]) -> tuple[str, int]:
    """Run a comparison. Returns what to print, and how many trials failed.

    Raises:
        UserError: a mistake in what was asked for; nothing has run then.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")  # none that a user could mend
    plan = read_plan(options)
    if options.get("report_only") and options.get("rerun"):
        raise UserError("rerun: has no effect with report_only, which runs nothing; leave one of them out")
    with runner(options) as chosen:
        plan = plan._replace(devices=chosen.devices)
        tuned = grids(plan)
        default = {row.name: trials_of(plan, row) for row in plan.rows}
        if _option(options, "report_only"):
            return _report_so_far(plan, tuned), 0
        store = Store(plan.folder)
        with store.locked():
            store.settle_reruns()  # of a command that was killed
            session = Session(store, chosen, _option(options, "rerun"))
            trials = _run(plan, tuned, default, session)
            outcome = gather(plan, store, trials, tuned)
            files = write_report(outcome, store.folder)
    return "\n".join([terminal(outcome, files), *session.kept]), outcome.failed + len(session.kept)


def _run(
    plan: Plan, tuned: Mapping[str, list[Candidate]], default: Mapping[str, list[Trial]], session: Session
) -> dict[str, list[Trial]]:
    """Run what is missing, grids first. Returns the trials of each row, with the settings that validation chose."""
    store = session.store
    candidates = [trial for grid in tuned.values() for candidate in grid for trial in candidate.trials]
    asked = [*(trial for trials in default.values() for trial in trials), *candidates]
    check_labels(asked)
    check_data(session.missing(asked))
    session.check([*candidates, *(t for name, trials in default.items() if name not in tuned for t in trials)])
    store.check_protocol(asked)
    session.run(candidates, stage="the grid")
    best = {name: choose(store, grid) for name, grid in tuned.items()}
    trials = _chosen(plan, best)
    # A row has no trial on a data set where its whole grid failed: its defaults are not what was asked for.
    settled = {row.name: best.get(row.name, plan.datasets) for row in plan.rows}
    session.run([trial for name, row in trials.items() for trial in row if trial.dataset in settled[name]])
    return trials


def _chosen(plan: Plan, best: Mapping[str, Mapping[str, Layer]]) -> dict[str, list[Trial]]:
    return {row.name: trials_of(plan, row, best.get(row.name)) for row in plan.rows}


def _report_so_far(plan: Plan, tuned: Mapping[str, list[Candidate]]) -> str:
    """The report on what has finished. Needs no lock: another command may be at work in the folder.

    Raises:
        UserError: nothing has, or two rows would be shown under one name.
    """
    if plan.folder.is_dir():
        store = Store(plan.folder)
        trials = _chosen(plan, {name: choose(store, grid) for name, grid in tuned.items()})
        check_labels([trial for row in trials.values() for trial in row])
        outcome = gather(plan, store, trials, tuned)
        if any(table.finished for table in outcome.tables) or any(each.score is not None for each in outcome.tried):
            return terminal(outcome, write_report(outcome, store.folder))
    raise UserError(
        f"report_only: {plan.folder} has no finished trial of this comparison with these settings, this code and this "
        "data; leave report_only out to run the comparison"
    )


@contextlib.contextmanager
def runner(options: Mapping[str, Any]) -> Iterator[Runner]:
    """What runs trials: this machine, or a cluster, which is reached before anything else happens.

    Raises:
        UserError: an engine that is not installed, or no cluster at the address.
    """
    if options.get("engine"):
        with connect(options.get("address"), options.get("resources")) as cluster:
            # What a worker's device cannot is found by the trial.
            yield Runner(cluster.run, cluster.at_once, lambda trials: None, cluster.devices())
        return
    for name in ("address", "resources"):
        if options.get(name):
            raise UserError(f"{name} = {options[name]}: needs an engine; add --engine=dask")
    jobs = _option(options, "jobs")
    yield Runner(functools.partial(run_here, jobs=jobs), jobs, check_devices)


def _option(options: Mapping[str, Any], name: str) -> Any:
    """What was asked for, else the default of properties/run.yaml."""
    return options.get(name, run_options()[name].default)


class Session:
    """Runs trials that have no result yet; with --rerun, all that this command has not run itself.

    `kept` says of which ones, run again and failed, the first result stands.
    """

    def __init__(self, store: Store, runner: Runner, rerun: bool):
        self.store, self.runner, self.rerun = store, runner, rerun
        self._done: set[str] = set()
        self.kept: list[str] = []

    def check(self, trials: Sequence[Trial]) -> None:
        """Refuse what would have to be run and cannot; nothing is written.

        Raises:
            UserError: see `check_devices`.
        """
        self.runner.check(self.missing(trials))

    def missing(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those that would have to be run."""
        return [trial for trial in trials if self.rerun or not self.store.found(trial)]

    def run(self, trials: Sequence[Trial], stage: str = "") -> None:
        self.check(trials)
        unique = list({trial.key: trial for trial in trials}.values())
        if not self.rerun:
            for trial in unique:
                self.store.adopt(trial)
        wanted = [trial for trial in unique if self._is_wanted(trial)]
        try:
            self.runner.run(self.store, wanted, watch=Board(self.store, unique, wanted, self.runner.at_once, stage))
        finally:
            restored = self.store.settle_reruns()
        again = [trial for trial in unique if trial.key in restored]
        self.kept += [
            f"failed: {trial.row}, {trial.dataset}, seed {trial.seed}, run again: {restored[trial.key]}; "
            "its first result is kept"
            for trial in again
        ]
        self._done |= {trial.key for trial in unique}

    def _is_wanted(self, trial: Trial) -> bool:
        return trial.key not in self._done if self.rerun else not self.store.result(trial)
