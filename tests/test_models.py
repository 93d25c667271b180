"""The models: equality with RecBole's SASRec, and every size they promise."""

import pytest
import torch
import yaml
from recbole.model.sequential_recommender import SASRec
from recbole.utils import get_model

from recbole_attn.model import MODELS
from recbole_attn.registry import model_properties

N_ITEMS = 40


class Catalogue:
    def num(self, field):
        return N_ITEMS


class Settings(dict):
    def __getitem__(self, key):  # as RecBole's Config: None for what is missing
        return self.get(key)


def settings(name, **changes):
    fields = {
        "USER_ID_FIELD": "user",
        "ITEM_ID_FIELD": "item",
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "length",
        "NEG_PREFIX": "neg_",
        "MAX_ITEM_LIST_LENGTH": 10,
        "device": torch.device("cpu"),
    }
    defaults = yaml.safe_load(model_properties(name).read_text(encoding="utf-8"))
    defaults["layer_norm_eps"] = 1e-12  # YAML 1.1 without RecBole's loader reads a string
    return Settings({**fields, **defaults, **changes})


def build(name, **changes):
    torch.manual_seed(4)
    return get_model(name)(settings(name, **changes), Catalogue())


def batch(length=10, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    item_seq = torch.randint(1, N_ITEMS, (size, length), generator=generator)
    lengths = torch.randint(1, length + 1, (size,), generator=generator)
    lengths[0] = length
    item_seq[torch.arange(length) >= lengths[:, None]] = 0
    target, negative = torch.randint(1, N_ITEMS, (2, size), generator=generator)
    return {"item_list": item_seq, "length": lengths, "item": target, "neg_item": negative}


def copy_from_recbole(ours, theirs):
    """Copy the weights of RecBole's SASRec into AttnSASRec."""
    pairs = [
        (ours.item_embedding, theirs.item_embedding),
        (ours.position_embedding, theirs.position_embedding),
        (ours.input_norm, theirs.LayerNorm),
    ]
    for mine, other in zip(ours.encoder.layers, theirs.trm_encoder.layer):
        attention, feed_forward = other.multi_head_attention, other.feed_forward
        pairs += [
            (mine.attention.query, attention.query),
            (mine.attention.key, attention.key),
            (mine.value, attention.value),
            (mine.output, attention.dense),
            (mine.attention_norm, attention.LayerNorm),
            (mine.widen, feed_forward.dense_1),
            (mine.narrow, feed_forward.dense_2),
            (mine.feed_forward_norm, feed_forward.LayerNorm),
        ]
    for mine, other in pairs:
        mine.load_state_dict(other.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
@pytest.mark.parametrize("hidden_act", ["gelu", "relu", "swish", "tanh", "sigmoid"])
def test_attnsasrec_with_copied_weights_is_recboles_sasrec(loss_type, hidden_act):
    changes = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "initializer_range": 0.1}
    changes.update(loss_type=loss_type, hidden_act=hidden_act, n_layers=3, n_heads=4)
    ours = build("AttnSASRec", **changes)
    theirs = SASRec(settings("AttnSASRec", **changes), Catalogue())
    copy_from_recbole(ours, theirs)
    interaction = batch()
    for method in ("calculate_loss", "predict", "full_sort_predict"):
        torch.testing.assert_close(
            getattr(ours, method)(interaction), getattr(theirs, method)(interaction), rtol=1e-5, atol=1e-5
        )
    ours.calculate_loss(interaction).backward()
    theirs.calculate_loss(interaction).backward()
    torch.testing.assert_close(ours.item_embedding.weight.grad, theirs.item_embedding.weight.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
@pytest.mark.parametrize(("n_heads", "n_layers", "length"), [(1, 1, 5), (2, 4, 50), (8, 2, 200), (4, 3, 20)])
def test_every_size_trains(name, loss_type, n_heads, n_layers, length):
    model = build(name, loss_type=loss_type, n_heads=n_heads, n_layers=n_layers, MAX_ITEM_LIST_LENGTH=length)
    interaction = batch(length)
    loss = model.calculate_loss(interaction)
    loss.backward()
    assert loss.isfinite()
    unused = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not unused
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert model.eval().full_sort_predict(interaction).shape == (16, N_ITEMS)


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_one_item_are_those_of_all_items(name):
    model, interaction = build(name).eval(), batch()
    every = model.full_sort_predict(interaction)
    torch.testing.assert_close(every.gather(1, interaction["item"][:, None])[:, 0], model.predict(interaction))


@pytest.mark.parametrize("name", MODELS)
def test_trimming_a_batch_to_its_longest_history_changes_no_score(name):
    model, interaction = build(name).eval(), batch(6)
    padded = dict(interaction, item_list=torch.nn.functional.pad(interaction["item_list"], (0, 4)))
    torch.testing.assert_close(model.full_sort_predict(interaction), model.full_sort_predict(padded))


@pytest.mark.parametrize("name", MODELS)
def test_scoring_draws_no_random_numbers(name):
    model, interaction = build(name).eval(), batch()
    first, state = model.full_sort_predict(interaction), torch.get_rng_state()
    torch.testing.assert_close(model.full_sort_predict(interaction), first, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_awrsr_without_refined_layers_is_attnsasrec():
    control, model = build("AttnSASRec").eval(), build("AWRSR", attention_layers=[]).eval()
    torch.testing.assert_close(model.full_sort_predict(batch()), control.full_sort_predict(batch()), rtol=0, atol=0)


def test_refined_attention_stands_in_the_chosen_layers_only():
    model = build("AWRSR", n_layers=3, attention_layers=[0, 2])
    kinds = [type(layer.attention).__name__ for layer in model.encoder.layers]
    assert kinds == ["Refined", "Softmax", "Refined"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 3}, "hidden_size must be a multiple of n_heads, not 64 with n_heads=3"),
        ({"n_layers": 0}, "n_layers must be at least 1, not 0"),
        ({"MAX_ITEM_LIST_LENGTH": 0}, "MAX_ITEM_LIST_LENGTH must be at least 1, not 0"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob must lie in \[0, 1\), not 1.0"),
        ({"attn_dropout_prob": -0.1}, r"attn_dropout_prob must lie in \[0, 1\), not -0.1"),
        ({"attention_layers": [2]}, r"attention_layers must be all or a list of layers from 0 to 1, not \[2\]"),
        ({"hidden_act": "elu"}, "hidden_act must be one of gelu, relu, swish, tanh, sigmoid, not 'elu'"),
        ({"refinement": "valu"}, "refinement must be one of simple, value, value_map, additive, bahdanau, not 'valu'"),
        ({"scale": "n"}, "scale must be learned or sqrt_n, not 'n'"),
        ({"scale_init": 0.0}, "scale_init must be greater than 0, not 0.0"),
        ({"index": "end"}, "index must be start or recent, not 'end'"),
        ({"mix": 2.0}, r"mix must be learned or a number in \[0, 1\], not 2.0"),
        ({"loss_type": "MSE"}, "loss_type must be CE or BPR, not 'MSE'"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        build("AWRSR", **changes)
