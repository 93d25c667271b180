"""Prefixes by index are RecBole's prefixes; the order is exact; trimming and buckets lose nothing."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from atomic_files import config, write, write_tiny
from recbole.data import data_preparation
from recbole.data.dataset import Dataset, DIENDataset, SequentialDataset
from recbole.utils import get_model, init_seed

from recbole_attn.data import PrefixDataset, load_dataset, split
from recbole_attn.data.prefixes import TRIMMABLE, Prefixes, prefix_rows
from recbole_attn.errors import UserError

SPLITS = [
    {"LS": "valid_and_test"},
    {"LS": "valid_only"},
    {"LS": "test_only"},
    {"RS": [0.8, 0.1, 0.1]},
    {"TS": [0.7, 0.15, 0.15]},
]
PAIRS = {"distribution": "uniform", "sample_num": 2, "alpha": 1.0, "dynamic": False, "candidate_num": 0}


@pytest.fixture
def tiny(tmp_path):
    write_tiny(tmp_path)
    return tmp_path


def both(make_config):
    """(data set, loaders) of RecBole's class and of ours, from the same seed."""
    for make, divide in ((SequentialDataset, data_preparation), (load_dataset, split)):
        settings = make_config()
        init_seed(3, True)
        dataset = make(settings)
        yield dataset, divide(settings, dataset)


def batches(loader):
    init_seed(5, True)
    return [batch[0] if isinstance(batch, tuple) else batch for _ in range(2) for batch in loader]


def assert_same_tables(left, right):
    assert left.columns == right.columns
    for name in left.columns:
        assert left[name].dtype == right[name].dtype
        assert torch.equal(left[name], right[name]), name


def assert_same_batches(left, right):
    left, right = batches(left), batches(right)
    assert len(left) == len(right)
    for one, other in zip(left, right):
        assert_same_tables(one, other)


def assert_same_ids(left, right):
    assert left.field2id_token.keys() == right.field2id_token.keys()
    for field, tokens in left.field2id_token.items():
        assert tokens.tolist() == right.field2id_token[field].tolist()
        assert left.field2token_id[field] == right.field2token_id[field]
    for table in ("field2type", "field2source", "field2seqlen", "field2bucketnum"):
        assert getattr(left, table) == getattr(right, table), table


@pytest.mark.parametrize("group_by", ["user", "none"])
@pytest.mark.parametrize("divide", SPLITS, ids=str)
def test_batches_are_recboles_for_every_split(tiny, divide, group_by):
    settings = {"split": divide, "eval_args": {"group_by": group_by}, "time_order": "recbole"}
    (_, stock), (_, ours) = both(lambda: config(tiny, **settings))
    for left, right in zip(stock, ours):
        assert_same_batches(left, right)


@pytest.mark.parametrize("worker", [0, 2])
def test_batches_with_negatives_are_recboles(tiny, worker):
    settings = {"loss_type": "BPR", "train_neg_sample_args": PAIRS, "worker": worker, "time_order": "recbole"}
    (_, stock), (_, ours) = both(lambda: config(tiny, **settings))
    for left, right in zip(stock[: 1 if worker else 3], ours):
        assert_same_batches(left, right)


@pytest.mark.parametrize("settings", [
    {"MAX_ITEM_LIST_LENGTH": 1},
    {"normalize_all": True, "unused_col": {"inter": ["rating", "tags_list"]}},
    {"numerical_features": ["rating"]},
    {"eval_args": {"mode": "uni5"}},
], ids=str)  # fmt: skip
def test_batches_are_recboles_for_other_settings(tiny, settings):
    (_, stock), (_, ours) = both(lambda: config(tiny, time_order="recbole", **settings))
    for left, right in zip(stock, ours):
        assert_same_batches(left, right)


@pytest.mark.parametrize("settings", [
    {"user_inter_num_interval": "[9,inf)", "item_inter_num_interval": "[12,inf)"},
    {"user_inter_num_interval": "(3,20];[23,24)", "filter_inter_by_user_or_item": True},
    {"item_inter_num_interval": "[10,14]"},
    {"rm_dup_inter": "last"},
    {"val_interval": {"rating": "[.2,.9)", "device": ["c1", "c3"]}},
    {"seq_len": {"tags": 1}},
    {"threshold": {"rating": 0.5}, "LABEL_FIELD": "label"},
    {"alias_of_item_id": ["tags"]},
    {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "genre"]}},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("order", ["recbole", "exact"])
def test_ids_and_features_are_recboles_for_every_filter(tiny, settings, order):
    stock = SequentialDataset(config(tiny, **settings))
    ours = PrefixDataset(config(tiny, time_order=order, **settings))
    assert_same_ids(stock, ours)
    assert len(stock.inter_feat) == len(ours.inter_feat)
    for one in (stock, ours):
        one._change_feat_format()
    for name in stock.feat_name_list[1:]:
        assert_same_tables(getattr(stock, name), getattr(ours, name))


def test_odd_tokens_and_every_bit_of_a_number_are_read_as_recbole_reads_them(tmp_path):
    draw = np.random.default_rng(1)
    tokens = ["007", "7", "1.0", "NA", "", "é ü", '"q"', "true", " x "]
    rows = [(token, f"i{i}", i, repr(draw.standard_normal() * 10.0**i)) for i in range(9) for token in tokens]
    write(tmp_path, [("user_id:token", "item_id:token", "timestamp:float", "rating:float"), *rows])
    stock, ours = SequentialDataset(config(tmp_path)), PrefixDataset(config(tmp_path, time_order="recbole"))
    assert_same_ids(stock, ours)
    pd.testing.assert_frame_equal(stock.inter_feat, ours.inter_feat, check_exact=True)


def test_a_file_read_in_pieces_is_the_file_read_at_once(tiny, monkeypatch):
    whole = PrefixDataset(config(tiny))
    monkeypatch.setattr("recbole_attn.data.atomic._ROWS", 50)
    monkeypatch.setattr("recbole_attn.data.lines._BLOCK", 100)
    pieces = PrefixDataset(config(tiny))
    assert_same_ids(whole, pieces)
    pd.testing.assert_frame_equal(whole.inter_feat, pieces.inter_feat)


def histories_of_ml_100k(time_order):
    """Items by user, in the order in which they would be trained on, from the whole log of the data set."""
    settings = config(dataset="ml-100k", time_order=time_order, normalize_all=False,
                      load_col={"inter": ["user_id", "item_id", "timestamp"]})  # fmt: skip
    dataset = load_dataset(settings)
    loaders = split(settings, dataset)
    columns = loaders[0].dataset.inter_feat.interaction.log.columns
    users = dataset.id2token("user_id", columns["user_id"])
    items = pd.Series(dataset.id2token("item_id", columns["item_id"]))
    targets = [
        dict(zip(dataset.id2token("user_id", part.inter_feat["user_id"]),
                 dataset.id2token("item_id", part.inter_feat["item_id"])))
        for part in (loaders[1].dataset, loaders[2].dataset)
    ]  # fmt: skip
    return items.groupby(users).agg(list).to_dict(), targets, settings["data_path"]


def test_exact_order_is_an_int64_stable_sort_for_every_user_of_ml_100k_and_float32_is_not():
    exact, (valid, test), folder = histories_of_ml_100k("exact")
    log = pd.read_csv(
        f"{folder}/ml-100k.inter", sep="\t", dtype={0: str, 1: str}, names=["u", "i", "r", "t"], skiprows=1
    )
    log = log.iloc[np.argsort(log["t"].to_numpy(np.int64), kind="stable")]
    reference = log.groupby("u")["i"].agg(list).to_dict()
    assert len(reference) == 943
    assert exact == reference
    assert valid == {user: items[-2] for user, items in reference.items()}
    assert test == {user: items[-1] for user, items in reference.items()}

    single, (valid32, test32), _ = histories_of_ml_100k("recbole")
    assert single != reference
    assert sum(test32[user] != test[user] for user in test) == 149
    assert sum(valid32[user] != valid[user] for user in valid) == 254


@pytest.mark.parametrize("settings", [{}, {"rm_dup_inter": "first"}], ids=str)
def test_equal_times_keep_the_order_of_the_file(tmp_path, settings):
    rows = [("a", f"i{n}", 1_000_000_000 + (n % 3)) for n in range(40)]
    write(tmp_path, [("user_id:token", "item_id:token", "timestamp:float"), *rows])
    dataset = load_dataset(config(tmp_path, **settings))
    dataset.build()
    items = dataset.id2token("item_id", dataset.inter_feat.interaction.log.columns["item_id"]).tolist()
    assert items == [f"i{n}" for n in sorted(range(40), key=lambda n: n % 3)]


@pytest.mark.parametrize("model", ["Pop", "BPR", "ItemKNN"])
def test_general_models_are_split_by_exact_time_too(tiny, model):
    settings = config(tiny, model, train_neg_sample_args=PAIRS, load_col={"inter": ["user_id", "item_id", "timestamp"]})
    dataset = load_dataset(settings)
    assert not isinstance(dataset, SequentialDataset)
    frame = pd.read_csv(tiny / "tiny" / "tiny.inter", sep="\t").sort_values("timestamp:float", kind="stable")
    last = frame.groupby("user_id:token").filter(lambda rows: len(rows) > 1).groupby("user_id:token").last()
    test = split(settings, dataset)[2].dataset.inter_feat
    found = zip(dataset.id2token("user_id", test["user_id"]), dataset.id2token("item_id", test["item_id"]))
    assert dict(found) == last["item_id:token"].to_dict()


def test_a_random_split_of_a_general_model_is_recboles(tiny):
    made = []
    for make in (Dataset, load_dataset):
        init_seed(1, True)
        made.append(make(config(tiny, "BPR", split={"RS": [0.8, 0.1, 0.1]}, eval_args={"order": "RO"},
                                train_neg_sample_args=PAIRS)).build())  # fmt: skip
    for left, right in zip(*made):
        assert_same_tables(left.inter_feat, right.inter_feat)


def test_a_special_data_set_keeps_its_class_and_gets_the_exact_order(tiny):
    settings = config(tiny, "DIEN", eval_args={"mode": "uni5"}, load_col={"inter": ["user_id", "item_id", "timestamp"]})
    dataset = load_dataset(settings)
    assert isinstance(dataset, DIENDataset)
    assert dataset.inter_feat["timestamp"].is_monotonic_increasing


def test_without_a_time_column_the_order_of_the_file_can_be_asked_for(tmp_path):
    rows = [("a", "x"), ("b", "x"), ("a", "y"), ("a", "w"), ("b", "y"), ("a", "v")]
    write(tmp_path, [("user_id:token", "item_id:token"), *rows])
    with pytest.raises(UserError, match=r"TIME_FIELD=timestamp: no such column .* time_order: file"):
        load_dataset(config(tmp_path))
    settings = config(tmp_path, time_order="file")
    dataset = load_dataset(settings)
    _, valid, test = split(settings, dataset)
    assert dataset.id2token("item_id", valid.dataset.inter_feat["item_id"].numpy()).tolist() == ["w"]
    assert dataset.id2token("item_id", test.dataset.inter_feat["item_id"].numpy()).tolist() == ["v"]


def test_the_log_names_the_order_and_counts_shared_timestamps(tmp_path, caplog):
    times = {"a": [10, 10, 10, 20], "b": [10, 1_000_000_000, 1_000_000_001]}
    rows = [(user, f"i{n}", time) for user in times for n, time in enumerate(times[user])]
    write(tmp_path, [("user_id:token", "item_id:token", "timestamp:float"), *rows])
    for order, shared in (("exact", 3), ("recbole", 5)):
        with caplog.at_level(logging.INFO):
            load_dataset(config(tmp_path, time_order=order)).build()
        assert f"time_order: {order}; {shared} of 7 interactions share" in caplog.text


def test_an_unknown_order_is_refused(tiny):
    with pytest.raises(UserError, match="time_order=sorted: must be one of exact, recbole, file"):
        load_dataset(config(tiny, time_order="sorted"))


def test_a_prefix_row_is_a_target_and_the_length_of_its_history():
    target, length = prefix_rows(torch.tensor([1, 1, 1, 1, 2, 3, 3]), limit=2)
    assert target.tolist() == [1, 2, 3, 6]
    assert length.tolist() == [1, 2, 2, 1]


def test_what_models_ask_of_a_data_set_is_answered_as_by_recbole(tiny):
    (stock, (left, *_)), (ours, (right, *_)) = both(lambda: config(tiny, time_order="recbole"))
    left, right = left.dataset, right.dataset
    for value in (None, "rating"):
        one, other = left.inter_matrix(value_field=value), right.inter_matrix(value_field=value)
        assert (one.row == other.row).all() and (one.col == other.col).all() and (one.data == other.data).all()
    assert left.item_counter == right.item_counter and left.user_counter == right.user_counter
    assert len(left) == len(right) and left.inter_num == right.inter_num and str(left) == str(right)
    for table in (left, right):
        init_seed(1, True)
        table.history = table.history_item_matrix()
    assert all(torch.equal(one, other) for one, other in zip(left.history, right.history))
    assert torch.equal(stock.inter_feat["item_id_list"][[3, 1]], ours.inter_feat["item_id_list"][[3, 1]])


def test_shuffling_sorting_and_taking_rows_gather_nothing_and_agree_with_recbole(tiny):
    (stock, _), (ours, _) = both(lambda: config(tiny, time_order="recbole"))
    for dataset in (stock, ours):
        init_seed(9, True)
        dataset.shuffle()
        dataset.sort(by=["device", "rating"])
        dataset.inter_feat["extra"] = torch.arange(len(dataset))
        dataset.inter_feat.drop("device")
    mask = np.arange(len(ours)) % 3 == 0
    for index in ([5, 2, 2], slice(4, 9), range(3), [], mask, mask.tolist(), torch.tensor([1, 0]), 6):
        assert isinstance(ours.inter_feat[index], Prefixes)
        if not isinstance(index, range):
            assert_same_tables(stock.inter_feat[index], ours.inter_feat[index])
    assert_same_tables(stock[np.array([7, 1])], ours[np.array([7, 1])])


def test_pre_split_files_take_recboles_path(tmp_path):
    header = ("user_id:token", "item_id:token", "item_id_list:token_seq")
    for part in ("train", "valid", "test"):
        rows = [(f"u{n}", f"i{n % 4}", " ".join(f"i{k}" for k in range(n % 3 + 1))) for n in range(9)]
        write(tmp_path, [header, *rows], suffix=f"{part}.inter")
    settings = {"benchmark_filename": ["train", "valid", "test"], "alias_of_item_id": ["item_id_list"]}
    (one, stock), (other, ours) = both(lambda: config(tmp_path, **settings))
    assert_same_ids(one, other)
    for left, right in zip(stock, ours):
        assert_same_batches(left, right)


def test_trimmed_batches_are_the_full_ones_less_their_padding(tiny):
    wide, narrow = (config(tiny, trim=trim, train_batch_size=4, eval_batch_size=2) for trim in (False, True))
    for left, right in zip(split(wide, load_dataset(wide)), split(narrow, load_dataset(narrow))):
        widths = set()
        for one, other in zip(batches(left), batches(right)):
            width = int(one["item_length"].max())
            widths.add(width)
            for name in one.columns:
                value = one[name][:, :width] if name.endswith("_list") else one[name]
                assert torch.equal(value, other[name]), name
        assert len(widths) > 1


@pytest.mark.parametrize("name", sorted(TRIMMABLE))
def test_recboles_models_that_may_be_trimmed_score_alike(tiny, name):
    """Also a history of one item in a batch of its own, which leaves no padding at all."""
    found, widths = [], set()
    for trim in (False, True):
        settings = config(tiny, name, trim=trim, eval_batch_size=2, train_batch_size=1, shuffle=False)
        loaders = split(settings, load_dataset(settings))
        init_seed(3, True)
        model = get_model(name)(settings, loaders[0].dataset).eval()
        scored = [*batches(loaders[0]), *batches(loaders[2])]
        widths |= {batch["item_id_list"].shape[1] for batch in scored}
        with torch.no_grad():
            found.append(torch.cat([model.full_sort_predict(batch).flatten() for batch in scored]))
    assert 1 in widths
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["Caser", "HRM", "LightSANs", "SHAN"])
def test_a_model_that_reads_padding_is_not_trimmed(tiny, name):
    with pytest.raises(UserError, match=f"trim = True: {name} may read padding; leave trim out"):
        load_dataset(config(tiny, name, trim=True))


def test_our_models_read_the_list_of_items_trimmed_and_no_other_list(tiny):
    settings = config(tiny, "AttnSASRec", eval_args={"mode": {"valid": "full", "test": "uni5"}})
    train, valid, test = split(settings, load_dataset(settings))
    lists = {name for name in train.dataset.inter_feat.columns if name.endswith("_list")}
    assert lists == {"item_id_list"}
    for loader in (train, valid):
        assert all(batch["item_id_list"].shape[1] == batch["item_length"].max() for batch in batches(loader))
    assert {batch["item_id_list"].shape[1] for batch in batches(test)} == {7}


@pytest.mark.parametrize("buckets", [1, 3, 50, 10**12])
def test_buckets_serve_every_row_once_an_epoch_in_a_new_order(tiny, buckets):
    settings = config(tiny, length_buckets=buckets, train_batch_size=10)
    train, _, _ = split(settings, load_dataset(settings))
    orders = [list(train.batch_sampler.sampler) for _ in range(2)]
    assert all(sorted(order) == list(range(len(train.dataset))) for order in orders)
    assert orders[0] != orders[1]
    seen = torch.cat([batch["item_id"] for batch in train])
    assert torch.equal(seen.sort().values, train.dataset.inter_feat["item_id"].sort().values)
    assert len(list(train)) == len(train) == -(-len(train.dataset) // 10)


def test_buckets_shorten_batches_and_mix_lengths_between_them(tiny):
    spread = {}
    for buckets in (1, 50):
        settings = config(tiny, length_buckets=buckets, train_batch_size=10, MAX_ITEM_LIST_LENGTH=25)
        lengths = [batch["item_length"] for batch in split(settings, load_dataset(settings))[0]][:-1]
        spread[buckets] = np.mean([float(length.max() - length.min()) for length in lengths])
        longest = [int(length.max()) for length in lengths]
        assert longest != sorted(longest)
    assert spread[50] < spread[1] / 4


def test_the_generators_state_gives_the_bucketed_epoch_again(tiny):
    settings = config(tiny, length_buckets=3)
    train, _, _ = split(settings, load_dataset(settings))
    list(train)
    state = train.generator.get_state()
    first = [batch["item_id"] for batch in train]
    train.generator.set_state(state)
    assert all(torch.equal(one, other) for one, other in zip(first, (batch["item_id"] for batch in train)))


@pytest.mark.parametrize("settings", [{"length_buckets": 0}, {"length_buckets": 2.5}, {"length_buckets": "many"},
                                      {"length_buckets": 2, "shuffle": False}], ids=str)  # fmt: skip
def test_useless_buckets_are_refused(tiny, settings):
    settings = config(tiny, **settings)
    with pytest.raises(UserError, match="length_buckets="):
        split(settings, load_dataset(settings))


def test_a_saved_data_set_is_read_where_asked_for_and_nowhere_else(tiny):
    settings = {"dataset": "tiny", "save_dataset": True, "save_dataloaders": True}
    first = config(tiny, **settings)
    loaders = split(first, load_dataset(first))
    stale = tiny / "saved" / "tiny-PrefixDataset.pth"
    assert stale.is_file()
    write(
        tiny,
        [("user_id:token", "item_id:token", "timestamp:float"), *((f"u0{n % 2}", f"i{n + 1}", n) for n in range(9))],
    )

    fresh = config(tiny, train_batch_size=3)
    assert len(load_dataset(fresh).inter_feat) == 9
    assert len(split(fresh, load_dataset(fresh))[0].dataset) == 3

    asked = config(
        tiny, dataset_save_path=str(stale), dataloaders_save_path=str(tiny / "saved" / "tiny-for-SASRec-dataloader.pth")
    )
    dataset = load_dataset(asked)
    assert len(dataset.inter_feat) > 9
    assert len(split(asked, dataset)[0].dataset) == len(loaders[0].dataset)
    resplit = config(tiny, dataset_save_path=str(stale), split={"LS": "test_only"})
    assert len(split(resplit, load_dataset(resplit))[1].dataset) == 0
    other = config(tiny, dataset_save_path=str(stale), rm_dup_inter="first")
    assert len(load_dataset(other).inter_feat) == 9


@pytest.mark.parametrize("changes", [{"time_order": "recbole"}, {"trim": False}, {"model": "AttnSASRec"}], ids=str)
def test_saved_loaders_of_other_settings_are_made_anew(tiny, caplog, changes):
    """RecBole, whose settings these are not, would read them."""
    saved = config(tiny, **{"trim": True, **changes}, save_dataloaders=True)
    split(saved, load_dataset(saved))
    (file,) = (tiny / "saved").glob("*-dataloader.pth")
    asked, fresh = config(tiny, trim=True, dataloaders_save_path=str(file)), config(tiny, trim=True)
    found, expected = (split(settings, load_dataset(settings)) for settings in (asked, fresh))
    assert f"the saved split differs in {next(iter(changes))} and is made anew" in caplog.text
    for ours, theirs in zip(found, expected):
        for one, other in zip(batches(ours), batches(theirs)):
            assert all(torch.equal(one[name], other[name]) for name in other.columns)
    assert asked["dataloaders_save_path"] == str(file)


def test_a_split_data_set_survives_pickling(tiny):
    settings = config(tiny)
    train = split(settings, load_dataset(settings))[0].dataset
    assert_same_tables(train[np.arange(5)], pickle.loads(pickle.dumps(train))[np.arange(5)])


@pytest.mark.parametrize("name", ["dataset_save_path", "dataloaders_save_path"])
def test_a_saved_file_that_is_asked_for_must_be_there(tiny, name):
    settings = config(tiny, **{name: str(tiny / "none.pth")})
    with pytest.raises(UserError, match=f"{name}=.*none.pth"):
        split(settings, load_dataset(settings))


@pytest.mark.parametrize("model", ["SASRec", "FEARec", "GRU4Rec"])
def test_a_baseline_of_recbole_gets_the_same_metrics_on_our_data_set(tiny, model):
    from recbole.utils import get_model, get_trainer

    settings = {"epochs": 1, "time_order": "recbole", "train_batch_size": 128, "hidden_size": 8, "inner_size": 8,
                "embedding_size": 8, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}  # fmt: skip
    results = []
    for made in both(lambda: config(tiny, model, metrics=["NDCG"], valid_metric="NDCG@10", **settings)):
        values, (train, valid, test) = made[0].config, made[1]
        init_seed(4, True)
        network = get_model(model)(values, train.dataset)
        trainer = get_trainer(values["MODEL_TYPE"], model)(values, network)
        loss = trainer.fit(train, valid, saved=False)
        results.append((loss, trainer.evaluate(test, load_best_model=False)))
    assert results[0] == results[1]
