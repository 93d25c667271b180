"""All that is found inside the models, computed once for every form of the report."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_attn.analysis.ablation import Ablated, ablation
from recbole_attn.analysis.cases import Cases, load_cases, rows_of_users
from recbole_attn.analysis.comparable import require_data
from recbole_attn.analysis.faithfulness import Erasures, erasures
from recbole_attn.analysis.maps import Maps, average_maps, user_maps
from recbole_attn.analysis.measures import Measures, measure
from recbole_attn.analysis.robustness import Robustness, robustness
from recbole_attn.analysis.scores import ndcg, ranks
from recbole_attn.analysis.titles import read_titles
from recbole_attn.analysis.trained import Row

_SAMPLE_SEED = 0


class Inside(NamedTuple):
    """What was found in one row.

    Attributes:
        seeds: of its trainings. All but the maps is of all of them.
        average: maps of the first training averaged over the sample; `users`: those of the chosen users.
        scores: (U,) NDCG@k of every case, mean over trainings.
    """

    name: str
    seeds: list[int]
    average: Maps
    users: list[Maps]
    measures: Measures
    erasures: Erasures
    robustness: Robustness
    scores: np.ndarray


class Findings(NamedTuple):
    """What was found in all rows.

    Attributes:
        cases: the whole test set. `sample`: of its rows, those that all but `scores` is measured on. `chosen`: those
            whose maps are shown, and `targets` the titles of what is to be predicted for them.
        control: name of the row that the others are compared with; None where there is none.
        k: of NDCG@k.
    """

    dataset: str
    cases: Cases
    sample: np.ndarray
    chosen: np.ndarray
    targets: list[str]
    rows: list[Inside]
    control: str | None
    k: int
    ablation: list[Ablated]

    @property
    def base(self) -> Inside | None:
        """The control's."""
        return next((row for row in self.rows if row.name == self.control), None)

    @property
    def pairs(self) -> list[tuple[Inside, Inside]]:
        """The control's with each of the others'; none where there is no control."""
        base = self.base
        return [] if base is None else [(base, row) for row in self.rows if row is not base]


def find(rows: Sequence[Row], control: str | None, users: Sequence[str], max_users: int, results: Path) -> Findings:
    """Look into the models of all rows.

    Args:
        users: original ids of those whose maps are shown; none chooses three, with short, middle and long histories.
        max_users: how many users the maps, measures and noise are averaged over, drawn where there are more.
        results: folder of the comparison `calibrator_layers`, which need not be there.

    Raises:
        UserError: the data cannot be read, or is not what the models were trained on; a user who is not in it.
    """
    config = rows[0].first.config
    cases, dataset = load_cases(config)
    require_data((trained for row in rows for trained in row.seeds), dataset)
    chosen = rows_of_users(cases, users) if users else _typical(cases)
    sample = np.arange(len(cases.user))
    if len(sample) > max_users:
        sample = np.sort(np.random.default_rng(_SAMPLE_SEED).choice(sample, max_users, replace=False))
    ids = list(map(str, dataset.field2id_token[dataset.iid_field]))
    titles, k = read_titles(config, ids), int(config["valid_metric"].partition("@")[2] or 10)
    found = []
    for row in rows:
        getLogger("recbole_attn.analysis").info(f"looking into {row.name}")
        found.append(_inside(row, cases, sample, chosen, titles, ids, k))
    targets = [titles[item] for item in cases.target[chosen].tolist()]
    ablated = ablation(results, config["dataset"], f"ndcg@{k}")
    return Findings(config["dataset"], cases, sample, chosen, targets, found, control, k, ablated)


def _inside(
    row: Row, cases: Cases, sample: np.ndarray, chosen: np.ndarray, titles: list[str], ids: list[str], k: int
) -> Inside:
    model, some = row.first.model, cases.take(sample)
    models = [trained.model for trained in row.seeds]
    return Inside(
        name=row.name,
        seeds=[trained.config["seed"] for trained in row.seeds],
        average=average_maps(model, some),
        users=user_maps(model, cases.take(chosen), titles, ids),
        measures=measure(models, some, len(ids)),
        erasures=erasures(models, some),
        robustness=robustness(models, some, len(ids), k),
        scores=np.mean([ndcg(ranks(other, cases), k) for other in models], 0),
    )


def _typical(cases: Cases) -> np.ndarray:
    """Rows with a short, a middle and a long history: those at the quarters of all lengths."""
    order = np.argsort(cases.history, kind="stable")
    return np.unique(order[[len(order) // 4, len(order) // 2, 3 * len(order) // 4]])


def save(found: Findings, folder: Path) -> list[Path]:
    """Write every array: `maps/*.npz`, and one .npz a row with measures, erasures, robustness and scores."""
    from recbole_attn.compare.report.figures import plain

    files = []
    for row in found.rows:
        name = plain(row.name)
        users = zip(found.cases.user[found.chosen], row.users)
        for label, maps in [("average", row.average), *((f"user-{plain(user)}", maps) for user, maps in users)]:
            files.append(folder / "maps" / f"{name}-{label}.npz")
            maps.save(files[-1])
        files.append(folder / f"{name}.npz")
        np.savez_compressed(
            files[-1],
            user=found.cases.user,
            sample=found.sample,
            ndcg=row.scores,
            measures_before=row.measures.before,
            measures_after=row.measures.after,
            erasures=row.erasures.moves,
            robustness=row.robustness.values,
        )
    return files
