"""What the report says, in its order."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_attn.compare.outcome import Line, Outcome, Table, Tried, status
from recbole_attn.compare.report.background import background
from recbole_attn.compare.report.blocks import Cell, Figure, Grid, Section, Text, cells, duration, number
from recbole_attn.compare.report.semantic_ids import semantic_ids
from recbole_attn.compare.report.warnings import failed, remaining, waiting, warnings
from recbole_attn.compare.statistics import LEVEL, RESAMPLES, Comparison

NO_FIGURES = "Figures need matplotlib: pip install matplotlib, and run the same command again."
_MEGA = 1 << 20


def sections(outcome: Outcome, figures: Sequence[Figure]) -> list[Section]:
    """The whole report."""
    parts = []
    for table in outcome.tables:
        parts.append(Section(f"Results on {table.dataset}", [headline(table), *_notices(outcome, table)]))
        parts += [_differences(table), _figures(table, figures), _cost(table), semantic_ids(table)]
        parts.append(_all_metrics(table))
    if outcome.tried:
        parts.append(_tuning(outcome))
    parts += background(outcome)
    return [part for part in parts if part.blocks]


def headline(table: Table) -> Grid:
    """The table that is quoted."""
    head = ["row", *map(metric_name, table.headline), "seeds"]
    rows = [
        cells(line.name, *(score(line, table, metric) for metric in table.headline), _seeds(line))
        for line in table.lines
    ]
    return Grid(head, rows, f"Mean ± standard deviation over seeds; the best mean in bold. {stars(table)}")


def stars(table: Table) -> str:
    """What a mark beside a number says, and what it does not."""
    weights = (
        " Means count every target alike, the test every user, whose targets are averaged first."
        if table.several_targets
        else ""
    )
    return (
        f"Stars: differs from {table.baseline} (↓: is worse) in a paired t-test over users, Holm-corrected over the "
        f"{table.tests} tests of this table (* p < .05, ** p < .01, *** p < .001). The test is of these trainings: "
        f"what other seeds would change is not in it, only in the standard deviation.{weights}"
    )


def metric_name(metric: str) -> str:
    """ndcg@10 as papers write it."""
    name, at, cut = metric.partition("@")
    return {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "gauc": "GAUC"}.get(name, name.capitalize()) + at + cut


def score(line: Line, table: Table, metric: str) -> Cell:
    """Mean ± sd of one metric, with its mark."""
    mean, sd = line.mean(metric), line.sd(metric)
    if mean != mean:
        return Cell(line.status)
    text = f"{mean:.4f}" + ("" if sd != sd else f" ± {sd:.4f}")
    return Cell(text, mean, round(mean, 4) == table.best(metric), line.mark(metric))


def _seeds(line: Line) -> Cell:
    asked = len(line.results) + len(line.failures)
    text = f"{len(line.results)} of {asked}" if line.failures else str(asked)
    return Cell(text, len(line.results))


def _notices(outcome: Outcome, table: Table) -> list[Text]:
    lists = {
        "Failed trials; the same command tries them again.": failed(outcome, table),
        "Not finished when this was written; the same command runs them.": waiting(outcome, table),
        "To keep in mind:": warnings(outcome, table),
        "What could not be made equal:": remaining(table),
    }
    return [Text(title, found, warning=True) for title, found in lists.items() if found]


def _differences(table: Table) -> Section:
    base = table.baseline
    rows = [
        _difference(line.name, metric, found, line.corrected[metric])
        for line in table.lines
        for metric, found in line.against.items()
    ]
    chances = ["p (t-test)", "p (bootstrap)", "p (Holm)"]
    head = ["row", "metric", "difference", "from", "to", *chances, "effect", "users"]
    note = (
        f"Row minus {base}, so that more is better; {LEVEL:.0%} interval from {RESAMPLES} resamples of users. Seeds "
        "and targets are averaged within a user first. Effect: mean difference over its standard deviation over users. "
        f"Only p (Holm) is corrected for the {table.tests} tests, intervals are not; p (bootstrap) is at least "
        f"{2 / (RESAMPLES + 1):.3f}."
    )
    return Section(f"Against {base} on {table.dataset}", [Grid(head, rows, note)] if rows else [])


def _difference(row: str, metric: str, found: Comparison, corrected: float) -> list[Cell]:
    interval = [_signed(value) for value in (found.difference, found.low, found.high)]
    chances = [_p(value) for value in (found.p, found.p_bootstrap, corrected)]
    return cells(row, metric_name(metric), *interval, *chances, number(found.effect, 3), found.users)


def _signed(value: float) -> Cell:
    return Cell(f"{value:+.4f}", value) if value == value else number(None)


def _p(value: float) -> Cell:
    return Cell("< .0001" if value < 0.0001 else f"{value:.4f}".lstrip("0") if value < 1 else "1", value)


def _figures(table: Table, figures: Sequence[Figure]) -> Section:
    drawn = [figure for figure in figures if figure.dataset == table.dataset]
    if drawn or not table.finished:
        return Section(f"Figures for {table.dataset}", drawn)
    return Section(f"Figures for {table.dataset}", [Text(NO_FIGURES)])


def _cost(table: Table) -> Section:
    head = ["row", "parameters", "s/epoch", "epochs", "best epoch", "time", "targets/s in test", "peak memory"]
    note = (
        "Means over seeds. s/epoch: training alone. Time: training, validation and test of one seed. Epochs count from "
        "1. Memory: of the trial's process, or on a GPU what PyTorch allocated there."
    )
    rows = [_spent(line) for line in table.finished]
    return Section(f"Cost on {table.dataset}", [Grid(head, rows, note)] if rows else [])


def _spent(line: Line) -> list[Cell]:
    memory = line.average("peak_memory")
    return cells(
        line.name,
        round(line.average("parameters")),
        number(line.average("seconds_per_epoch"), 2),
        number(line.average("epochs"), 1),
        number(line.average("best_epoch") + 1, 1),
        duration(line.average("seconds")),
        round(line.average("users") / line.average("test_seconds")),
        Cell(f"{memory / _MEGA:,.0f} MiB", memory),
    )


def _all_metrics(table: Table) -> Section:
    rows = [cells(line.name, *(_mean(line, table, metric) for metric in table.metrics)) for line in table.finished]
    head = ["row", *map(metric_name, table.metrics)]
    return Section(f"All metrics on {table.dataset}", [Grid(head, rows, "Means over seeds.")] if rows else [])


def _mean(line: Line, table: Table, metric: str) -> Cell:
    mean = line.mean(metric)
    return number(mean)._replace(best=round(mean, 4) == table.best(metric))


def _tuning(outcome: Outcome) -> Section:
    note = "The whole grid, with the first seed; chosen on validation only."
    rows = [_candidate(tried) for tried in outcome.tried]
    return Section("Tuning", [Grid(["row", "data", "setting", "validation", ""], rows, note)])


def _candidate(tried: Tried) -> list[Cell]:
    score = number(None if tried.score is None else abs(tried.score))._replace(best=tried.chosen)
    said = "chosen" if tried.chosen else status(tried.reason) if tried.reason else ""
    return cells(tried.row, tried.dataset, tried.setting, score, said)
