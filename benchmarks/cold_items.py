"""How well are items ranked that never occur in training? Against random order, whose figures are exact.

    python benchmarks/cold_items.py --dataset=ml-100k --models FAIR FAIR:quantizer=random,code_bits=5 AttnSASRec

A share of the items (5 %) is drawn and every interaction with them is taken out of the log, which is then trained on as
usual; the drawn items keep their row in the .item file, and with it a number and codes. Each user's last interaction
with a drawn item is the case: the history is all else that the user did before it, and the drawn item is ranked among
the drawn ones, and among all. Models are named as on the command line, settings after a colon. What users did after
their case is trained on: it tells of other items only. A model with one vector an item (AttnSASRec) only ever pushes
those of the drawn items away, as items that nobody chose: it is the second control, and quantizer=random, codes without
meaning, is the third, with code_bits=5 on ml-100k, which learned codes get there. Standard errors take the drawn items
as the sample, not the users, who share them.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

import recbole_attn  # noqa: F401  (before anything imports RecBole)
from recbole_attn.config.command_line import typed
from recbole_attn.config.layers import Layer
from recbole_attn.config.settings import load_settings
from recbole_attn.recommender import Recommender
from recbole_attn.run import run

RESULTS = Path(__file__).parent / "results"
CUT = 10


class Case(NamedTuple):
    """A user's history, oldest first, and the cold item that came after it; original ids."""

    history: list[str]
    item: str


def cold_items(items: Sequence[str], share: float, seed: int) -> set[str]:
    """So large a share of the items, at least one, by the seed."""
    distinct = sorted(set(items))
    drawn = np.random.default_rng(seed).choice(len(distinct), max(1, round(share * len(distinct))), replace=False)
    return {distinct[number] for number in drawn}


def cases_of(log: pd.DataFrame, cold: set[str]) -> dict[str, Case]:
    """The last interaction with a cold item, for every user who has one with another item before it.

    Args:
        log: columns user, item, time; rows of one time are in order.
    """
    cases = {}
    for user, items in log.sort_values("time", kind="stable").groupby("user", sort=False)["item"]:
        taken = items.tolist()
        last = max((place for place, item in enumerate(taken) if item in cold), default=0)
        history = [item for item in taken[:last] if item not in cold]
        if history:
            cases[user] = Case(history, taken[last])
    return cases


def write_warm(source: Path, target: Path, fields: Sequence[str], cold: set[str]) -> None:
    """Copy a data set without the interactions of `cold`; every item gets a row in the .item file."""
    target.mkdir(parents=True)
    name, item_field = source.name, f"{fields[1]}:token"
    log = pd.read_csv(source / f"{name}.inter", sep="\t", dtype=str, quoting=3)
    log[~log[item_field].isin(cold)].to_csv(target / f"{name}.inter", sep="\t", index=False, quoting=3)
    known = source / f"{name}.item"
    table = pd.read_csv(known, sep="\t", dtype=str, quoting=3) if known.is_file() else pd.DataFrame({item_field: []})
    lacking = sorted(set(log[item_field]) - set(table[item_field]))
    table = pd.concat([table, pd.DataFrame({item_field: lacking}, dtype=str)])
    table.to_csv(target / f"{name}.item", sep="\t", index=False, quoting=3)


def rank(scores: Mapping[str, float], item: str, candidates: set[str]) -> float:
    """The place of `item` among `candidates`, from 1; the mean place where scores are equal."""
    others = [scores[other] for other in candidates if other != item]
    above = sum(score > scores[item] for score in others)
    return 1 + above + sum(score == scores[item] for score in others) / 2


def measures(ranks: np.ndarray, items: Sequence[str], candidates: int) -> dict[str, float]:
    """Recall and NDCG at 10 and the mean place as a share of all places, each with its standard error.

    Args:
        items: the item of each case, whose cases are alike: the error is that of their means, as of a cluster sample.
    """
    hit = ranks <= CUT
    columns = {
        f"Recall@{CUT}": hit,
        f"NDCG@{CUT}": np.where(hit, 1 / np.log2(ranks + 1), 0),
        "place": (ranks - 1) / max(candidates - 1, 1),
    }
    means = {name: float(np.mean(values)) for name, values in columns.items()}
    return {**means, **{f"{name} se": clustered(values, items) for name, values in columns.items()}}


def clustered(values: np.ndarray, groups: Sequence[str]) -> float:
    """Standard error of the mean of `values` (n,) where those of a group depend on each other."""
    sums = pd.Series(values - np.mean(values)).groupby(np.asarray(groups)).sum()
    return float(math.sqrt((sums**2).sum() * len(sums) / max(1, len(sums) - 1)) / len(values))


def at_random(candidates: int) -> dict[str, float]:
    """What random order is expected to reach."""
    gain = sum(1 / math.log2(place + 1) for place in range(1, min(CUT, candidates) + 1))
    return {f"Recall@{CUT}": min(CUT, candidates) / candidates, f"NDCG@{CUT}": gain / candidates, "place": 0.5}


def judge(recommender, cases: Mapping[str, Case], cold: set[str], n_items: int) -> dict[str, dict[str, float]]:
    """Measures among the cold items and among all, of anything with `recommend` as a `Recommender` has it."""
    answers = recommender.recommend({user: case.history for user, case in cases.items()}, n_items)
    ranks: dict[str, list[float]] = {"cold": [], "all": []}
    for user, case in cases.items():
        scores = {best.item: best.score for best in answers[user]}
        ranks["cold"].append(rank(scores, case.item, cold & set(scores)))
        ranks["all"].append(rank(scores, case.item, set(scores)))
    sizes = {"cold": len(cold), "all": n_items}
    items = [case.item for case in cases.values()]
    return {among: measures(np.array(places), items, sizes[among]) for among, places in ranks.items()}


def read_log(config) -> tuple[Path, list[str], pd.DataFrame]:
    """The folder of a data set, its columns of user, item and time, and these as user, item, time."""
    fields = [config[name] for name in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
    source = Path(config["data_path"])
    labels = [f"{fields[0]}:token", f"{fields[1]}:token", f"{fields[2]}:float"]
    log = pd.read_csv(source / f"{source.name}.inter", sep="\t", dtype=str, quoting=3, usecols=labels)[labels]
    log.columns = ["user", "item", "time"]
    return source, fields, log.astype({"time": float})


def settings_of(pairs: Sequence[str]) -> dict:
    """KEY=VALUE, ... → settings, typed as on the command line."""
    return {key: typed(value) for key, value in (pair.split("=", 1) for pair in pairs if pair)}


def train(row: str, dataset: str, folder: Path, fields: list[str], given: Mapping) -> str:
    """The checkpoint of one row, such as FAIR:quantizer=random."""
    model, _, changes = row.partition(":")
    values = settings_of(changes.split(","))
    columns = {"inter": fields, "item": [fields[1]]}
    places = {"data_path": str(folder), "load_col": columns, "checkpoint_dir": str(folder / "saved")}
    every = {"item_inter_num_interval": "[0,inf)", "user_inter_num_interval": "[0,inf)"}
    layer = Layer("cold_items.py", {**every, **given, **values, **places})
    return run(load_settings(model, dataset, layers=[layer]).config).checkpoint


def show(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Markdown, a row for each model and set of candidates."""
    names = [f"Recall@{CUT}", f"NDCG@{CUT}", "place"]
    lines = [f"| model | among | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for model, by_candidates in found.items():
        for among, row in by_candidates.items():
            cells = [
                f"{row[name]:.4f}" + (f" ± {row[f'{name} se']:.4f}" if f"{name} se" in row else "") for name in names
            ]
            lines.append(f"| {model} | {among} | {' | '.join(cells)} |")
    return "\n".join(lines)


def study(args: argparse.Namespace, folder: Path) -> dict:
    """Prepare, train every row, and judge it."""
    given = settings_of(args.set)
    config = load_settings(
        args.models[0].partition(":")[0], args.dataset, config_dict={"data_path": args.data_path}
    ).config
    source, fields, log = read_log(config)
    cold = cold_items(log["item"].tolist(), args.share, args.seed)
    write_warm(source, folder / source.name, fields, cold)
    cases, n_items = cases_of(log, cold), log["item"].nunique()
    found = {"random order": {"cold": at_random(len(cold)), "all": at_random(n_items)}}
    for row in args.models:
        recommender = Recommender(train(row, args.dataset, folder, fields, given))
        found[row] = judge(recommender, cases, cold, len(recommender.catalogue.item_ids) - 1)
    about = {"dataset": args.dataset, "share": args.share, "seed": args.seed, "set": given}
    return {**about, "cold": len(cold), "items": n_items, "cases": len(cases), "found": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = ["FAIR", "FAIR:quantizer=random,code_bits=5", "RPG", "AttnSASRec"]
    parser.add_argument("--models", nargs="+", default=rows)
    parser.add_argument("--dataset", default="ml-100k", help="one without filters, or whose file is filtered already")
    parser.add_argument("--data_path", default="dataset")
    parser.add_argument("--share", type=float, default=0.05, help="of the items, kept out of training")
    parser.add_argument("--seed", type=int, default=2020, help="which items are drawn")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all models")
    args = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
    folder = Path(tempfile.mkdtemp())
    try:
        result = study(args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"cold_items-{args.dataset}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{args.dataset}: {result['cold']} of {result['items']} items cold, {result['cases']} users\n")
    print(show(result["found"]))


if __name__ == "__main__":
    main()
