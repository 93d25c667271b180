"""Whole sequences in one pass: no target is lost, none is counted twice, and each sees enough of its history."""

import pytest
import torch
from atomic_files import config, write_tiny
from recbole.utils import get_model, init_seed

from recbole_attn.config.settings import load_settings
from recbole_attn.data import load_dataset, split
from recbole_attn.data.windows import WindowLoader, windows_of
from recbole_attn.model import MODELS
from recbole_attn.run import build_model


def users_of(lengths):
    return torch.repeat_interleave(torch.arange(1, len(lengths) + 1), torch.tensor(lengths))


def rows_that_have_a_history(users):
    return (users[1:] == users[:-1]).nonzero().squeeze(1) + 1


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 50])
@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_every_target_is_counted_once_and_sees_half_of_the_width(width, keep):
    torch.manual_seed(width)
    users = users_of([1, 2, 3, width + 1, width + 2, 2 * width, 7 * width + 3, 1, 120])
    target = rows_that_have_a_history(users)
    target = target[torch.rand(len(target)) < keep]
    windows = windows_of(users, target, width)
    assert windows.targets.sum() == len(target)
    assert torch.equal((windows.counted_in >= 0).nonzero().squeeze(1), target)
    for number in target.tolist():
        start = int(windows.start[windows.counted_in[number]])
        index = int((users[:number] == users[number]).sum())
        assert users[start] == users[number]
        assert min(index, width / 2) <= number - start <= width


def test_a_history_that_fits_is_one_window():
    windows = windows_of(users_of([5, 3]), torch.tensor([1, 2, 3, 4, 6, 7]), 4)
    assert windows.start.tolist() == [0, 5]
    assert windows.length.tolist() == [4, 2]


@pytest.fixture
def loader(tmp_path):
    write_tiny(tmp_path)

    def make(**settings):
        made = config(tmp_path, model="AttnSASRec", training="sequence", time_order="exact", **settings)
        init_seed(1, True)
        loader, *_ = split(made, load_dataset(made))
        assert isinstance(loader, WindowLoader)
        return loader

    return make


def pairs(batches):
    """(history, target) of every counted target."""
    found = []
    for batch in batches:
        for items, targets in zip(batch["item_id_list"].tolist(), batch["item_id"].tolist()):
            found += [(tuple(items[: i + 1]), target) for i, target in enumerate(targets) if target]
    return sorted(found)


@pytest.mark.parametrize("by", [{"LS": "valid_and_test"}, {"RS": [0.8, 0.1, 0.1]}, {"TS": [0.7, 0.15, 0.15]}])
def test_an_epoch_asks_for_the_targets_of_prefix_training_after_the_same_items(by, loader, tmp_path):
    windows = pairs(loader(split=by, MAX_ITEM_LIST_LENGTH=30))
    made = config(tmp_path, model="AttnSASRec", time_order="exact", split=by, MAX_ITEM_LIST_LENGTH=30)
    prefixes, *_ = split(made, load_dataset(made))
    rows = [(tuple(items[items > 0].tolist()), int(target)) for batch in prefixes
            for items, target in zip(batch["item_id_list"], batch["item_id"])]  # fmt: skip
    assert windows == sorted(rows)


@pytest.mark.parametrize("buckets", [None, 4])
def test_a_batch_holds_about_as_many_targets_as_asked_for(loader, buckets):
    made = loader(train_batch_size=64, length_buckets=buckets)
    sizes = [int((batch["item_id"] > 0).sum()) for batch in made]
    assert sum(sizes) == len(loader().dataset)
    assert len(sizes) == len(made) == -(-sum(sizes) // 64)
    assert max(sizes) <= 64 + 7


def test_a_window_is_never_divided(loader):
    made = loader(train_batch_size=1)
    batches = list(made)
    assert len(made) == len(made.windows.targets) >= len(batches)
    assert sum(len(batch) for batch in batches) == len(made)


def test_buckets_ask_for_the_same_with_less_padding_and_in_no_order_of_length(loader):
    settings = {"train_batch_size": 32, "MAX_ITEM_LIST_LENGTH": 25}
    mixed, grouped = (list(loader(length_buckets=buckets, **settings)) for buckets in (None, 4))
    assert pairs(mixed) == pairs(grouped)
    size, less = (sum(batch["item_id"].numel() for batch in batches) for batches in (mixed, grouped))
    assert less < size
    longest = [int(batch["item_length"].max()) for batch in grouped]
    assert longest != sorted(longest)


@pytest.mark.parametrize("buckets", [None, 3])
def test_the_order_is_shuffled_and_the_generator_reproduces_it(loader, buckets):
    made = loader(length_buckets=buckets)
    state = made.generator.get_state()
    first, second = (pairs_in_order(made) for _ in range(2))
    made.generator.set_state(state)
    assert pairs_in_order(made) == first
    assert first != second
    assert sorted(first) == sorted(second)


def pairs_in_order(loader):
    return [tuple(row) for batch in loader for row in batch["item_id_list"].tolist()]


def test_each_counted_target_of_a_pairwise_loss_has_one_other_item(loader):
    pairwise = {"loss_type": "BPR", "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
    made = loader(**pairwise)
    batches = [torch.stack([b["item_id"], b["neg_item_id"]]).flatten(1) for _ in range(50) for b in made]
    target, negative = torch.cat(batches, 1)
    assert (target != negative)[target > 0].all()
    assert set(negative[target > 0].tolist()) == set(range(1, made.dataset.item_num))
    assert (negative[target == 0] == 0).all()


ONE_PASS = [(name, loss) for name in MODELS if get_model(name).one_pass for loss in get_model(name).losses]


@pytest.mark.parametrize(("model", "loss_type"), ONE_PASS)
def test_one_pass_has_the_loss_of_all_prefixes(model, loss_type, tmp_path):
    """While a history fits, each position of a causal model sees what the prefix that ends there sees."""
    write_tiny(tmp_path)
    settings = {"dataset": "tiny", "data_path": str(tmp_path), "MAX_ITEM_LIST_LENGTH": 30, "loss_type": loss_type}
    settings.update(hidden_dropout_prob=0.0, attn_dropout_prob=0.0, train_batch_size=10**6)
    losses = []
    for training in ("prefix", "sequence"):
        config = load_settings(model, config_dict={**settings, "training": training}).config
        loader, *_ = split(config, load_dataset(config))
        init_seed(1, True)
        network = build_model(config, loader.dataset).double().eval()
        (batch,) = loader
        negative = batch["item_id"] % (loader.dataset.item_num - 1) + 1
        batch.interaction["neg_item_id"] = negative * (batch["item_id"] > 0)
        loss = network.calculate_loss(batch)
        losses.append(loss[0] if isinstance(loss, tuple) else loss)
    torch.testing.assert_close(*losses)
