"""General models are tested on the targets of sequential ones, and no split lets training see what comes later."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from comparisons import TINY, write_timed
from recbole.evaluator.collector import Collector

from recbole_attn import protocol
from recbole_attn.compare.ranks import Context, RankCollector, Ranks, users_of
from recbole_attn.compare.trial import execute
from recbole_attn.config.settings import load_settings
from recbole_attn.errors import UserError
from recbole_attn.run import make_trainer

SPLITS = [
    {"LS": "valid_and_test"},
    {"RS": [0.6, 0.2, 0.2]},
    {"TS": [0.6, 0.2, 0.2]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Users with one to nine interactions at random times; some pairs of user and item stand twice."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(1)
    rows = [
        (f"u{user}", f"i{draw.integers(25)}", draw.integers(1000) + 1_000_000_000)
        for user in range(40)
        for _ in range(draw.integers(1, 10))
    ]
    write_timed(folder, rows)
    return folder


def prepared(folder, model, split, **settings):
    """Config, data context and loaders of a model."""
    values = {**TINY, "data_path": str(folder), "eval_args": {"split": split}, "eval_batch_size": 7, **settings}
    config = load_settings(model, "timed", config_dict=values).config
    dataset = protocol.load(config)
    context = Context(dataset)
    loaders = protocol.loaders(config, dataset)
    context.hold_out(loaders[1].dataset, loaders[2].dataset)
    return config, context, loaders


def triples(loader):
    """(user, item, time) of the rows of a loader's data set, by original ids."""
    dataset = loader.dataset
    users, items, times = (
        dataset.inter_feat[name] for name in (dataset.uid_field, dataset.iid_field, dataset.time_field)
    )
    names = dataset.id2token(dataset.uid_field, users), dataset.id2token(dataset.iid_field, items)
    return sorted(zip(*map(list, names), times.tolist()))


@pytest.mark.parametrize("split", SPLITS)
def test_general_models_have_the_targets_of_sequential_ones(folder, split):
    _, _, general = prepared(folder, "BPR", split)
    _, _, sequential = prepared(folder, "AWRSR", split, hidden_size=8)
    for phase in (1, 2):
        assert triples(general[phase]) == triples(sequential[phase])
        assert len(triples(general[phase]))


@pytest.mark.parametrize("split", SPLITS)
def test_history_and_popularity_are_the_same_for_both_kinds_of_model(folder, split):
    found = []
    for model in ("BPR", "SASRec"):
        _, context, (_, _, test) = prepared(folder, model, split)
        users = np.asarray(users_of(test))
        found.append(sorted(zip(test.dataset.id2token("user_id", users), context.history(users))))
    assert [(user, length) for user, length in found[0]] == [(user, length) for user, length in found[1]]


def test_the_first_interactions_are_learned_by_general_models(folder):
    _, _, (general, *_) = prepared(folder, "BPR", {"LS": "valid_and_test"})
    _, _, (sequential, *_) = prepared(folder, "SASRec", {"LS": "valid_and_test"})
    users = {user for user, _, _ in triples(general)}
    assert len(users) == 40
    assert len(triples(general)) == len(triples(sequential)) + 40


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_leaving_one_out_trains_on_nothing_of_a_user_that_comes_after_his_targets(folder, model):
    _, _, (train, valid, test) = prepared(folder, model, {"LS": "valid_and_test"})
    last = {}
    for user, _, moment in triples(train):
        last[user] = max(moment, last.get(user, 0))
    assert all(last.get(user, 0) <= moment for loader in (valid, test) for user, _, moment in triples(loader))
    tested = [user for user, _, _ in triples(test)]
    assert len(tested) == len(set(tested))


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_ratios_put_the_later_interactions_of_each_user_into_later_parts(folder, model):
    _, _, loaders = prepared(folder, model, {"RS": [0.6, 0.2, 0.2]})
    spans = []
    for loader in loaders:
        times = {}
        for user, _, moment in triples(loader):
            times.setdefault(user, []).append(moment)
        spans.append(times)
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        for user in spans[earlier].keys() & spans[later].keys():
            assert max(spans[earlier][user]) <= min(spans[later][user])


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
@pytest.mark.parametrize(("split", "group"), [({"TS": [0.6, 0.2, 0.2]}, "user"), ({"RS": [0.6, 0.2, 0.2]}, "none")])
def test_a_split_along_time_trains_on_nothing_after_the_first_test_interaction(folder, model, split, group):
    _, _, (train, valid, test) = prepared(folder, model, split, **{"eval_args": {"split": split, "group_by": group}})
    first = min(moment for _, _, moment in triples(test))
    assert max(moment for _, _, moment in [*triples(train), *triples(valid)]) <= first
    tested = [user for user, _, _ in triples(test)]
    assert len(tested) > len(set(tested))  # a row for each target


@pytest.mark.parametrize("model", ["Pop", "SASRec"])
@pytest.mark.parametrize(
    "way", [{"split": {"TS": [0.6, 0.2, 0.2]}}, {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "none"}]
)
def test_times_that_are_mere_positions_cannot_be_split_along_time(folder, model, way):
    rows = [(f"u{user}", f"i{(user + step) % 25}", step) for user in range(20) for step in range(5 + user % 3)]
    write_timed(folder, rows, name="positions")
    values = {**TINY, "data_path": str(folder), "eval_args": way}
    config = load_settings(model, "positions", config_dict=values).config
    with pytest.raises(UserError, match="timestamps of positions are mere positions"):
        protocol.loaders(config, protocol.load(config))


@pytest.mark.parametrize("by_user", [True, False])
def test_positions_are_known_after_filters_have_taken_rows_out(folder, by_user):
    """A file of users one after another, with the numbers of its lines for times; and the same in order of time."""
    users = [user for user in range(20) for _ in range(2 + user % 7)]
    rows = [(f"u{user}", f"i{line % 25}", line) for line, user in enumerate(users)]
    if not by_user:
        draw = np.random.default_rng(0).permutation(len(rows))
        rows = [(*rows[line][:2], place) for place, line in enumerate(draw)]
    write_timed(folder, rows, name="lines")
    values = {**TINY, "data_path": str(folder), "eval_args": {"split": {"TS": [0.6, 0.2, 0.2]}}}
    config = load_settings("Pop", "lines", config_dict={**values, "user_inter_num_interval": "[5,inf)"}).config
    if by_user:
        with pytest.raises(UserError, match="mere positions"):
            protocol.loaders(config, protocol.load(config))
    else:
        protocol.loaders(config, protocol.load(config))


def test_sessions_that_do_not_overlap_have_times():
    users, times = np.repeat(np.arange(4), 3), np.repeat([100.0, 250, 300, 900], 3)
    assert not protocol.are_positions(users, times)


def test_time_order_by_file_cannot_be_split_along_time(folder):
    with pytest.raises(UserError, match="mere positions"):
        prepared(folder, "Pop", {"TS": [0.6, 0.2, 0.2]}, time_order="file")


def test_batches_of_general_models_are_counted_in_rows_and_mask_nothing(folder):
    _, _, (_, _, test) = prepared(folder, "BPR", {"LS": "valid_and_test"})
    sizes = []
    for interaction, history, rows, targets in test:
        assert history is None
        assert rows.tolist() == list(range(len(targets)))
        sizes.append(len(interaction))
    assert set(sizes[:-1]) == {7}
    assert sum(sizes) == len(test.dataset)


def test_popularity_is_the_number_of_training_interactions(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, _, (train, _, _) = prepared(
        folder, "Pop", {"LS": "valid_and_test"}, checkpoint_dir=str(tmp_path), train_batch_size=9
    )
    trainer = make_trainer(config, train.dataset)
    trainer.fit(train, None)
    items = [item for _, item, _ in triples(train)]
    expected = [items.count(item) for item in train.dataset.field2id_token["item_id"]]
    assert trainer.model.item_cnt.squeeze(1).tolist() == expected


def test_a_list_longer_than_the_items_is_refused(folder):
    with pytest.raises(UserError, match=r"topk = .*99.*: there are only"):
        prepared(folder, "Pop", {"LS": "valid_and_test"}, topk=[1, 10, 99])


ALL_METRICS = ["Recall", "NDCG", "MRR", "Hit", "MAP", "Precision"]


@pytest.mark.parametrize("model", ["Pop", "ItemKNN", "BPR", "AWRSR"])
@pytest.mark.parametrize("split", SPLITS)
def test_means_over_rows_are_the_metrics_that_recbole_reports(folder, model, split, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attention = {"hidden_size": 8, "inner_size": 8} if model == "AWRSR" else {}
    settings = {**TINY, **attention, "data_path": str(folder), "metrics": ALL_METRICS, "eval_args": {"split": split}}
    specification = {"row": model, "model": model, "dataset": "timed", "seed": 1, "settings": settings}
    whole = {**specification, "key": "", "compared": {}, "config": {"device": "cpu"}}
    (tmp_path / "trial.json").write_text(json.dumps(whole))
    execute(tmp_path)
    ranks = Ranks.from_file(tmp_path / "ranks.npz")
    tested = triples(prepared(folder, model, split)[2][2])
    assert sorted(zip(ranks.user, ranks.target)) == sorted((user, item) for user, item, _ in tested)
    result = json.loads((tmp_path / "result.json").read_text())
    assert ranks.metrics.keys() == result["test"].keys()
    for name, column in ranks.metrics.items():
        assert abs(column.mean() - result["test"][name]) <= 0.5e-4 + 1e-12  # as much as rounding to 4 places does
    assert len(ranks.metrics) == 4 * len(ALL_METRICS)
    assert (ranks.metrics["recall@10"] == (ranks.rank <= 10)).all()
    assert 0 <= ranks.tie_share <= 1


def note(scores, targets, topk):
    config = {"metrics": ["Recall", "MRR"], "topk": topk, "eval_args": {"mode": {"test": "full"}}, "device": "cpu"}
    collector = RankCollector(config)
    rows = torch.arange(len(targets))
    collector.eval_batch_collect(scores, None, rows, targets)
    return torch.cat(collector._rank), torch.cat(collector._tied)


def test_a_rank_counts_the_items_that_are_scored_higher():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(30, 50, generator=generator)
    targets = torch.randint(0, 50, (30,), generator=generator)
    rank, tied = note(scores, targets, [1, 10])
    expected = [1 + sum(other > row[target] for other in row) for row, target in zip(scores, targets)]
    assert rank.tolist() == [int(value) for value in expected]
    assert not tied.any()


def test_a_tied_target_has_its_place_in_the_list_of_recbole_and_none_of_it_otherwise():
    scores = torch.zeros(39, 40)
    scores[:, 0] = -torch.inf  # as RecBole sets the padding
    rank, tied = note(scores, torch.arange(1, 40), [1, 5])
    order = torch.topk(scores[0], 5).indices.tolist()
    assert [rank[item - 1].item() for item in order] == [1, 2, 3, 4, 5]
    assert all(rank[item - 1] == 6 for item in range(1, 40) if item not in order)
    assert (tied == 38).all()


def test_noting_ranks_changes_nothing_that_recbole_sees():
    scores = torch.randn(9, 20)
    config = {"metrics": ["Recall"], "topk": [3], "eval_args": {"mode": {"test": "full"}}, "device": "cpu"}
    plain, noting = Collector(config), RankCollector(config)
    for collector in (plain, noting):
        collector.eval_batch_collect(scores.clone(), None, torch.arange(9), torch.arange(9))
    assert torch.equal(plain.get_data_struct().get("rec.topk"), noting.get_data_struct().get("rec.topk"))
