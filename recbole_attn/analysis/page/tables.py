"""The tables of the page."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recbole_attn.analysis.ablation import CONTROL
from recbole_attn.analysis.estimates import Estimate, estimate
from recbole_attn.analysis.findings import Findings, Inside
from recbole_attn.analysis.groups import paired, sides
from recbole_attn.analysis.measures import NAMES
from recbole_attn.analysis.page import sentences
from recbole_attn.analysis.page.scales import CHANGE
from recbole_attn.compare.report.blocks import Cell, Grid, cells, number
from recbole_attn.compare.statistics import holm, marks


def subjects(found: Findings) -> Grid:
    against = {row.name: paired(row.scores, base.scores, found.cases.user) for base, row in found.pairs}
    corrected = holm({name: one.p for name, one in against.items()})
    rows = []
    for row in found.rows:
        score = Cell(f"{row.scores.mean():.4f}", float(row.scores.mean()), mark=marks(corrected.get(row.name, 1.0)))
        one = against.get(row.name)
        rows.append(cells(row.name, len(row.seeds), score, sentences.interval(one, 4) if one else "–"))
    note = f"NDCG@{found.k} on {found.dataset}, {len(found.cases.user):,} test targets, all items ranked."
    if found.control:
        note += f" Interval: of the difference from {found.control}, paired by user; stars as in comparisons."
    return Grid(["model", "trainings", f"NDCG@{found.k}", "difference"], rows, note)


def measured(found: Findings) -> list[str]:
    """The measures that say something: not those that are 0 throughout, or cannot be taken."""
    columns = [np.concatenate([row.measures.after.reshape(-1, len(NAMES)) for row in found.rows])]
    return [name for place, name in enumerate(NAMES) if np.nanmax(np.abs(columns[0][:, place]), initial=0) > 0]


def by_head(found: Findings) -> Grid:
    names, rows = measured(found), []
    for row in found.rows:
        for stage, values in _stages(row):
            one = estimate(values)
            for layer, head in np.ndindex(values.shape[1:3]):
                place = [_within(one.at(layer, head), name, stage == CHANGE) for name in names]
                rows.append(cells(row.name, stage, str(layer + 1), str(head + 1), *place))
    note = (
        "Mean over users ± half of the 95 % interval, of the position that predicts. Change: from the first to the "
        "final map, paired by user, in bold where its interval leaves 0 out. Of each model's first training, since "
        "heads of two trainings have no common order: head 1 of one model is not head 1 of another."
    )
    return Grid(["model", "map", "layer", "head", *names], rows, note)


def _stages(row: Inside) -> Iterator[tuple[str, np.ndarray]]:
    """Each part of the table with its (users, layers, heads, measures), of the first training."""
    before, after = row.measures.before[0], row.measures.after[0]
    if row.measures.changed:
        yield "first", before
    yield "final", after
    if row.measures.changed:
        yield CHANGE, after - before


def _within(one: Estimate, name: str, change: bool) -> Cell:
    place, digits = list(NAMES).index(name), sentences.digits_of(name)
    mean, high = float(one.mean[place]), float(one.high[place])
    if mean != mean:
        return Cell("–")
    told = sentences.signed(mean, digits) if change else f"{mean:.{digits}f}"
    return Cell(f"{told} ± {high - mean:.{digits}f}", mean, best=change and bool(one.certain[place]))


def users(found: Findings) -> Grid:
    rows = []
    for base, row in found.pairs:
        count = sides(row.scores, base.scores, found.cases.user)
        one = paired(row.scores, base.scores, found.cases.user)
        difference = Cell(sentences.signed(one.difference, 4), one.difference)
        rows.append(cells(row.name, *count, difference, sentences.interval(one, 4), number(one.effect, 3)))
    head = ["model", "users better", "alike", "worse", "mean difference", "interval", "effect"]
    note = (
        f"NDCG@{found.k} of each user against {found.control}'s, trainings averaged. Effect: mean over its deviation."
    )
    return Grid(head, rows, note)


def ablation(found: Findings) -> Iterator[Grid]:
    if not found.ablation:
        return
    rows = []
    for one in found.ablation:
        spread = f" ± {one.scores.std(ddof=1):.4f}" if len(one.scores) > 1 else ""
        score = Cell(f"{one.scores.mean():.4f}{spread}", float(one.scores.mean()))
        told = sentences.verdict(one.against.difference, one.against, 4, "better", "worse") if one.against else "–"
        rows.append(cells(one.name, len(one.scores), score, told))
    note = f"NDCG@{found.k}, mean ± standard deviation over trainings; against `{CONTROL}`, paired by user."
    yield Grid(["calibrated", "trainings", f"NDCG@{found.k}", f"against {CONTROL}"], rows, note)
