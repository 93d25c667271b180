"""The study of cold items: what is kept out of training, and how places are counted."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_attn.recommender import Recommendation

FILE = Path(__file__).parent.parent / "benchmarks" / "cold_items.py"
spec = importlib.util.spec_from_file_location("cold_items", FILE)
study = importlib.util.module_from_spec(spec)
spec.loader.exec_module(study)


def test_a_cold_item_occurs_in_no_interaction_and_keeps_its_row(tmp_path):
    source = tmp_path / "shop"
    source.mkdir()
    (source / "shop.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1\nu\tb\t2\nu\tc\t3\n")
    (source / "shop.item").write_text('item_id:token\ttitle:token_seq\na\tfirst\nb\tsecond "one"\n')
    study.write_warm(source, tmp_path / "warm" / "shop", ["user_id", "item_id"], {"b"})
    assert (tmp_path / "warm/shop/shop.inter").read_text().splitlines()[1:] == ["u\ta\t1", "u\tc\t3"]
    assert (tmp_path / "warm/shop/shop.item").read_text().splitlines()[1:] == ["a\tfirst", 'b\tsecond "one"', "c\t"]


def test_a_case_is_the_last_cold_item_with_the_warm_ones_before_it():
    rows = [("u", "x", 1), ("u", "a", 2), ("u", "y", 4), ("u", "b", 3), ("u", "c", 5), ("v", "x", 1), ("w", "a", 1)]
    log = pd.DataFrame(rows, columns=["user", "item", "time"])
    assert study.cases_of(log, {"x", "y"}) == {"u": study.Case(["a", "b"], "y")}


def test_the_share_of_cold_items_is_drawn_by_the_seed():
    items = [f"i{n % 100}" for n in range(1000)]
    assert len(study.cold_items(items, 0.05, 1)) == 5
    assert (
        study.cold_items(items, 0.05, 1) == study.cold_items(items[::-1], 0.05, 1) != study.cold_items(items, 0.05, 2)
    )


def test_equal_scores_share_their_places():
    scores = {"a": 3.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 0.0}
    assert [study.rank(scores, item, set(scores)) for item in "abe"] == [1, 3, 5]
    assert study.rank(scores, "b", {"b", "e"}) == 1


class Stub:
    """Ranks by a fixed score of each item."""

    def __init__(self, score):
        self.score = score

    def recommend(self, histories, k):
        best = sorted(self.score, key=self.score.get, reverse=True)[:k]
        return {user: [Recommendation(item, self.score[item]) for item in best] for user in histories}


def test_a_scorer_that_knows_is_first_and_one_that_draws_agrees_with_random_order():
    items = [f"i{n}" for n in range(200)]
    cold, draw = set(items[:40]), np.random.default_rng(0)
    knows = study.judge(
        Stub({item: float(item == "i7") for item in items}), {"u": study.Case(["i99"], "i7")}, cold, 200
    )
    assert knows["cold"]["Recall@10"] == knows["all"]["NDCG@10"] == 1
    assert knows["cold"]["place"] == 0
    cases = {f"u{n}": study.Case(["i99"], items[n % 40]) for n in range(40)}
    drawn = [study.judge(Stub(dict(zip(items, draw.normal(size=200)))), cases, cold, 200) for _ in range(5)]
    for among, size in (("cold", 40), ("all", 200)):
        for name, expected in study.at_random(size).items():
            assert np.mean([found[among][name] for found in drawn]) == pytest.approx(expected, abs=0.05)


def test_errors_take_the_items_as_the_sample():
    """Users of one item who all have its place tell as much as one user of each item."""
    ranks, items = np.array([1.0, 4, 9, 30]), ["a", "b", "c", "d"]
    once = study.measures(ranks, items, 40)
    often = study.measures(np.repeat(ranks, 25), np.repeat(items, 25), 40)
    for name, value in once.items():
        assert often[name] == pytest.approx(value)
    hits = [1, 1, 1, 0]
    assert once["Recall@10 se"] == pytest.approx(np.std(hits, ddof=1) / 2)
