"""All that a comparison found, computed once for every form of the report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recbole_attn.compare.grid import Candidate, choose, validation
from recbole_attn.compare.plan import Plan
from recbole_attn.compare.ranks import Ranks
from recbole_attn.compare.statistics import Comparison, by_user, compare_paired, holm, marks
from recbole_attn.compare.store import RANKS, Store
from recbole_attn.compare.trials import Trial, has_rows
from recbole_attn.errors import UserError

WAITING = "waiting"  # the reason of a trial that has not failed either


def status(reason: str) -> str:
    """What became of a trial without a result."""
    return reason if reason == WAITING else f"failed: {reason}"


class Line(NamedTuple):
    """One row on one data set.

    Attributes:
        name: the row's, as tables show it.
        results: of the seeds that finished.
        ranks: theirs, in the same order.
        failures: the others: (seed, reason), which is `WAITING` where the trial has not failed.
        scores: metric -> value of each seed; unrounded where each user has a value, else as RecBole rounds it.
        against: metric -> comparison with the baseline; empty for the baseline itself.
        corrected: metric -> its p-value after Holm.
    """

    name: str
    model: str
    results: list[dict[str, Any]]
    ranks: list[Ranks]
    failures: list[tuple[int, str]]
    scores: dict[str, np.ndarray]
    against: dict[str, Comparison]
    corrected: dict[str, float]

    @property
    def status(self) -> str:
        """Of a row without any result."""
        return "failed" if any(reason != WAITING for _, reason in self.failures) else WAITING

    def mean(self, metric: str) -> float:
        return float(self.scores[metric].mean()) if self.scores else float("nan")

    def sd(self, metric: str) -> float:
        values = self.scores.get(metric, ())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def mark(self, metric: str) -> str:
        """Stars of the corrected p-value, with an arrow down where the row is the worse one."""
        stars = marks(self.corrected.get(metric, 1.0))
        return f"↓{stars}" if stars and self.against[metric].difference < 0 else stars

    def average(self, key: str) -> float:
        """Mean over seeds of a number that every result has."""
        return float(np.mean([result[key] for result in self.results])) if self.results else float("nan")


class Table(NamedTuple):
    """One data set. `headline` names the metrics at the cut-off of validation or with none; `metrics` all of them."""

    dataset: str
    baseline: str
    lines: list[Line]
    metrics: list[str]
    headline: list[str]
    protocol: dict[str, Any]

    @property
    def tests(self) -> int:
        """How many p-values are corrected together."""
        return sum(len(line.corrected) for line in self.lines)

    @property
    def differing(self) -> list[str]:
        """The settings among `COMPARED` that rows which have them do not share."""
        rows = [line.results[0]["compared"] for line in self.finished]
        names = dict.fromkeys(name for row in rows for name in row)
        values = {name: {repr(row[name]) for row in rows if name in row} for name in names}
        return [name for name, found in values.items() if len(found) > 1]

    @property
    def finished(self) -> list[Line]:
        return [line for line in self.lines if line.results]

    @property
    def several_targets(self) -> bool:
        """Has some user more than one target?"""
        return any(len(np.unique(ranks.user)) < len(ranks.user) for line in self.lines for ranks in line.ranks)

    def best(self, metric: str) -> float:
        """The highest mean, as it is printed."""
        return max((round(line.mean(metric), 4) for line in self.finished), default=float("nan"))


class Tried(NamedTuple):
    """One setting of a grid and what validation said of it; None where it failed, or waits, for that reason.

    `row` is its name as tables show it.
    """

    row: str
    dataset: str
    point: dict[str, Any]
    score: float | None
    chosen: bool
    reason: str = ""

    @property
    def setting(self) -> str:
        return ", ".join(f"{key} = {value}" for key, value in self.point.items())


class Outcome(NamedTuple):
    """`failed` counts the trials without a result, those of grids too."""

    plan: Plan
    tables: list[Table]
    tried: list[Tried]
    failed: int


def gather(
    plan: Plan, store: Store, trials: Mapping[str, Sequence[Trial]], tuned: Mapping[str, Sequence[Candidate]]
) -> Outcome:
    """Read the results of all trials and compare them. A row whose whole grid failed on a data set has failed there."""
    tried = [each for row in tuned for each in _tried(store, row, tuned[row])]
    tables = [_table(plan, store, dataset, trials, _unchosen(store, dataset, tuned)) for dataset in plan.datasets]
    failed = sum(len(line.failures) for table in tables for line in table.lines)
    return Outcome(plan, tables, tried, failed + sum(each.score is None for each in tried))


def _unchosen(store: Store, dataset: str, tuned: Mapping[str, Sequence[Candidate]]) -> dict[str, str]:
    """The rows that are tuned, but for which nothing could be chosen yet, and why."""
    rows = [row for row, candidates in tuned.items() if dataset not in choose(store, candidates)]
    return {row: _no_choice(store, dataset, tuned[row]) for row in rows}


def _no_choice(store: Store, dataset: str, candidates: Sequence[Candidate]) -> str:
    trials = [trial for candidate in candidates for trial in candidate.trials if trial.dataset == dataset]
    if any(map(store.waits, trials)):
        return WAITING
    return "no setting of its grid has a validation score, so none was chosen"


def _table(
    plan: Plan, store: Store, dataset: str, trials: Mapping[str, Sequence[Trial]], unchosen: Mapping[str, str]
) -> Table:
    own = {name: [trial for trial in row if trial.dataset == dataset] for name, row in trials.items()}
    shown = {name: label(name, row[0].compared) for name, row in own.items()}
    baseline = shown[plan.baseline]
    lines = [_line(store, shown[name], row, unchosen.get(name)) for name, row in own.items()]
    measured = next((list(line.scores) for line in lines if line.scores), [])
    protocol = next(iter(own.values()))[0].protocol
    cut = protocol["valid_metric"].partition("@")[2]
    headline = [name for name in measured if name.partition("@")[2] in (cut, "")]
    paired = [name for name in headline if has_rows(name)]
    return Table(dataset, baseline, _compared(lines, baseline, paired), measured, headline, protocol)


def label(name: str, compared: Mapping[str, Any]) -> str:
    """A row's name, saying of one that is trained in one pass that it is: a line is often quoted without its table."""
    says_so = re.search("one.pass", name, re.IGNORECASE)
    return name if says_so or compared.get("training") != "sequence" else f"{name} (one pass)"


def check_labels(trials: Sequence[Trial]) -> None:
    """Refuse rows that the report would show under one name: nobody could tell them apart.

    Raises:
        UserError: there are such rows.
    """
    rows: dict[str, str] = {}
    for trial in trials:
        shown = label(trial.row, trial.compared)
        other = rows.setdefault(shown, trial.row)
        if other != trial.row:
            raise UserError(f"rows {other} and {trial.row} would both be shown as {shown!r}; give one another name")


def _line(store: Store, name: str, trials: Sequence[Trial], unchosen: str | None) -> Line:
    if unchosen:
        return Line(name, trials[0].model, [], [], [(trial.seed, unchosen) for trial in trials], {}, {}, {})
    results, ranks, failures = [], [], []
    for trial in trials:
        result = store.result(trial)
        if result is None:
            failures.append((trial.seed, store.failure(trial) or WAITING))
        else:
            results.append({**result, "seed": trial.seed})
            ranks.append(Ranks.from_file(store.of(trial) / RANKS))
    return Line(name, trials[0].model, results, ranks, failures, _scores(results, ranks), {}, {})


def _scores(results: Sequence[Mapping[str, Any]], ranks: Sequence[Ranks]) -> dict[str, np.ndarray]:
    """Metric -> value of each seed; what RecBole reports where users have no values of it, as of GAUC."""
    if not ranks:
        return {}
    by_row = {metric: np.array([rank.metrics[metric].mean() for rank in ranks]) for metric in ranks[0].metrics}
    # A number of NumPy is a text in the JSON of a result.
    whole = [metric for metric in results[0]["test"] if metric not in by_row]
    return by_row | {metric: np.array([float(result["test"][metric]) for result in results]) for metric in whole}


def _compared(lines: Sequence[Line], baseline: str, metrics: Sequence[str]) -> list[Line]:
    """The lines with their comparisons; p-values are corrected over all lines and metrics of the table."""
    base = next(line for line in lines if line.name == baseline)
    others = [line for line in lines if line is not base and line.ranks and base.ranks]
    found = {(line.name, metric): _against(line, base, metric) for line in others for metric in metrics}
    corrected = holm({key: comparison.p for key, comparison in found.items()})
    return [
        line._replace(
            against={metric: found[line.name, metric] for metric in metrics if (line.name, metric) in found},
            corrected={metric: corrected[line.name, metric] for metric in metrics if (line.name, metric) in found},
        )
        for line in lines
    ]


def _against(line: Line, base: Line, metric: str) -> Comparison:
    row, baseline = (by_user([(rank.user, rank.metrics[metric]) for rank in each.ranks]) for each in (line, base))
    return compare_paired(row, baseline)


def _tried(store: Store, row: str, candidates: Sequence[Candidate]) -> list[Tried]:
    tried = []
    for number in range(len(candidates[0].trials)):
        scores = [validation(store, candidate.trials[number]) for candidate in candidates]
        best = max((score for score in scores if score is not None), default=None)
        waiting = any(store.waits(candidate.trials[number]) for candidate in candidates)
        first = scores.index(best) if best is not None and not waiting else None
        for position, candidate in enumerate(candidates):
            trial, score = candidate.trials[number], scores[position]
            reason = "" if score is not None else _no_score(store, trial)
            tried.append(
                Tried(label(row, trial.compared), trial.dataset, candidate.point, score, position == first, reason)
            )
    return tried


def _no_score(store: Store, trial: Trial) -> str:
    if store.result(trial):
        return f"eval_args.split = {trial.protocol['eval_args']['split']} leaves no rows to validate on"
    return store.failure(trial) or WAITING
