"""The models: equality with RecBole's SASRec, and every size they promise."""

import pytest
import torch
import yaml
from recbole.model.sequential_recommender import SASRec
from recbole.utils import get_model

from recbole_attn.masks import pack
from recbole_attn.model import MODELS
from recbole_attn.model.bert4rec import append
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
    columns = {"item_list": item_seq, "length": lengths, "item": target, "neg_item": negative}
    return {**columns, "user": torch.arange(size)}


def whole(interaction):
    """The batch with a target after every item of the second half of its histories, and after the last one."""
    item_seq, lengths = interaction["item_list"], interaction["length"][:, None]
    place = torch.arange(item_seq.size(1))
    counted = (place < lengths) & (2 * place + 1 >= lengths)
    return dict(interaction, item=(item_seq * 7 % (N_ITEMS - 1) + 1) * counted, neg_item=item_seq)


def copy_from_recbole(ours, theirs):
    """Copy the weights of RecBole's SASRec into AttnSASRec."""
    pairs = [
        (ours.item_embedding, theirs.item_embedding),
        (ours.position_embedding, theirs.position_embedding),
        (ours.input_norm, theirs.LayerNorm),
    ]
    copy_layers(ours, theirs, pairs)


def copy_layers(ours, theirs, pairs):
    """Copy the weights of RecBole's encoder into ours, and those of the pairs."""
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


LOSSES = [(name, loss) for name in MODELS for loss in get_model(name).losses]


@pytest.mark.parametrize(("name", "loss_type"), LOSSES)
@pytest.mark.parametrize(("n_heads", "n_layers", "length"), [(1, 1, 5), (2, 4, 50), (8, 2, 200), (4, 3, 20)])
def test_every_size_trains(name, loss_type, n_heads, n_layers, length):
    model = build(name, loss_type=loss_type, n_heads=n_heads, n_layers=n_layers, MAX_ITEM_LIST_LENGTH=length)
    interaction = batch(length)
    losses = model.calculate_loss(interaction)
    loss = sum(losses) if isinstance(losses, tuple) else losses  # as RecBole's trainer does
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


def loss_and_gradients(model, interaction):
    model.zero_grad()
    torch.manual_seed(5)
    loss = model.calculate_loss(interaction)
    loss = sum(loss) if isinstance(loss, tuple) else loss
    loss.backward()
    return loss.detach(), {key: p.grad for key, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MODELS)
def test_trimming_a_batch_to_its_longest_history_changes_no_loss_and_no_gradient(name):
    still = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "use_adversarial": False, "alpha": 0.0, "beta": 0.0}
    model, found = build(name, **still).double(), []
    if hasattr(model, "draw_masks"):  # the last item of each history, whatever the width
        model.draw_masks = lambda items: (items != 0).cumsum(1).eq((items != 0).sum(1, keepdim=True)) & (items != 0)
    for padding in (0, 4):
        interaction = batch(6)
        interaction["item_list"] = torch.nn.functional.pad(interaction["item_list"], (0, padding))
        found.append(loss_and_gradients(model, interaction))
    (loss, gradients), (padded, others) = found
    torch.testing.assert_close(padded, loss)
    torch.testing.assert_close(others, gradients)


def make_all_states(encoder):
    """Have an encoder make the state of every row, and only then choose those that are read."""
    forward = encoder.forward

    def every(x, mask, rows=None, read=None):
        encoded = forward(x, mask, rows)
        shadow = None if encoded.shadow is None else pack(encoded.shadow, read)
        return encoded._replace(hidden=pack(encoded.hidden, read), shadow=shadow)

    encoder.forward = every


@pytest.mark.parametrize(("name", "loss_type"), LOSSES)
def test_after_the_last_map_only_what_the_loss_reads_is_made_and_nothing_changes(name, loss_type):
    model = build(name, loss_type=loss_type, hidden_dropout_prob=0.0, attn_dropout_prob=0.0, alpha=0.5).double()
    interaction, made = whole(batch()) if model.one_pass else batch(), []
    last = model.encoder.layers[-1]
    block = getattr(last, "covariance", last)
    watch = block.widen.register_forward_hook(lambda layer, inputs, output: made.append(output[..., 0].numel()))
    found = loss_and_gradients(model, interaction)
    watch.remove()
    if model.one_pass:
        passes = 2 if name in ("FAIR", "ACTSR") else 1  # with noise, or attacked
        assert sum(made) == passes * (interaction["item"] != 0).sum() < passes * (interaction["item_list"] != 0).sum()
    else:
        torch.manual_seed(5)
        items = append(interaction["item_list"], interaction["length"][:, None], interaction["item"][:, None])
        assert set(made) == {int(model.draw_masks(items).sum())}
    make_all_states(model.encoder)
    torch.testing.assert_close(loss_and_gradients(model, interaction), found)


@pytest.mark.parametrize("name", MODELS)
def test_scoring_draws_no_random_numbers(name):
    model, interaction = build(name).eval(), batch()
    first, state = model.full_sort_predict(interaction), torch.get_rng_state()
    torch.testing.assert_close(model.full_sort_predict(interaction), first, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["AttnSASRec", "AttnBERT4Rec"])
def test_cross_entropy_in_chunks_is_the_same_loss(name):
    losses = []
    for chunk in (None, 7):
        model = build(name, ce_chunk=chunk).eval()
        torch.manual_seed(0)  # of the masks
        losses.append(model.calculate_loss(batch()))
    torch.testing.assert_close(*losses)


def test_awrsr_without_refined_layers_is_attnsasrec():
    control, model = build("AttnSASRec").eval(), build("AWRSR", attention_layers=[]).eval()
    torch.testing.assert_close(model.full_sort_predict(batch()), control.full_sort_predict(batch()), rtol=0, atol=0)


@pytest.mark.parametrize(("control", "name"), [("AttnSASRec", "ACTSR"), ("AttnBERT4Rec", "ACBERT4Rec")])
@pytest.mark.parametrize(
    "neutral",
    [
        {"use_order": False, "use_distance": False, "gate": 1.0, "attn_dropout_prob": 0.0},
        {"use_order": False, "use_distance": False, "use_adversarial": False},
        {"attention_layers": []},
    ],
    ids=["gate at 1", "no adversary", "no layer"],
)
def test_without_calibration_a_model_is_its_control(control, name, neutral):
    changes = {"position_embedding": True, "initializer_range": 0.2, "hidden_dropout_prob": 0.0}
    plain, model = build(control, **changes, **neutral), build(name, **changes, **neutral)
    unknown = plain.load_state_dict(model.state_dict(), strict=False)
    assert not unknown.missing_keys
    interaction = batch()
    torch.testing.assert_close(model.eval().full_sort_predict(interaction), plain.eval().full_sort_predict(interaction))
    for each in (plain, model):
        torch.manual_seed(3)
        losses = each.train().calculate_loss(interaction)
        (sum(losses) if isinstance(losses, tuple) else losses).backward()
        each.loss = losses[0] if isinstance(losses, tuple) else losses
    torch.testing.assert_close(model.loss, plain.loss)
    theirs = dict(model.named_parameters())
    for key, parameter in plain.named_parameters():
        torch.testing.assert_close(theirs[key].grad, parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_preset_decides_what_is_left_to_it_and_a_value_given_wins(caplog):
    with caplog.at_level("INFO"):
        clean, released = build("ACTSR"), build("ACTSR", preset="released")
    assert not caplog.records
    kinds = [
        (m.renorm, m.dropout_on, m.adversary.kind, m.adversary.noise, m.adversary.penalty) for m in attentions(clean)
    ]
    assert kinds == 2 * [("divide", "weights", "sigmoid", "attention", "rms")]
    kinds = [
        (m.renorm, m.dropout_on, m.adversary.kind, m.adversary.noise, m.adversary.penalty) for m in attentions(released)
    ]
    assert kinds == 2 * [("softmax", "maps", "softmax", "gaussian", "frobenius")]
    assert (clean.penalty_weight, released.penalty_weight) == (0.3, 0.03)
    assert [m.gate_map.out_features for m in (*attentions(clean), *attentions(released))] == [10, 10, 50, 50]
    with caplog.at_level("INFO"):
        mixed = build("ACTSR", preset="released", penalty="rms", w=0.3, noise="gaussian")
    assert (attentions(mixed)[0].adversary.penalty, mixed.penalty_weight) == ("rms", 0.3)
    assert [record.message for record in caplog.records] == [
        "preset released: penalty = rms is set, in place of frobenius",
        "preset released: w = 0.3 is set, in place of 0.03",
    ]
    caplog.clear()
    with caplog.at_level("INFO"):
        build("ACTSR", gate_width=12)
    assert not caplog.records  # clean has no width of its own


def attentions(model):
    return [layer.attention for layer in model.encoder.layers]


def test_the_attack_strikes_in_the_last_calibrated_layer_or_in_all():
    model = build("ACTSR", n_layers=3, attention_layers=[0, 1])
    assert [getattr(m, "attacks", None) for m in attentions(model)] == [False, True, None]
    model = build("ACTSR", n_layers=3, attention_layers=[0, 1], attacked_layers="all")
    assert [getattr(m, "attacks", None) for m in attentions(model)] == [True, True, None]


def test_annealing_counts_training_steps_and_no_evaluation():
    model = build("ACTSR", combine="annealing")
    for training in (True, False, True):
        model.train(training)
        model.calculate_loss(batch())
    assert {int(attention.step) for attention in attentions(model)} == {2}


def test_positions_are_embedded_on_demand():
    assert not any("position_embedding" in name for name in build("ACTSR").state_dict())
    assert build("ACTSR", position_embedding=True).position_embedding.weight.shape == (10, 64)
    assert build("ACBERT4Rec", position_embedding=True).position_embedding.weight.shape == (11, 64)


def test_a_gate_of_a_long_model_uses_its_first_columns_for_a_short_batch():
    model, interaction = build("ACTSR").eval(), batch(6)
    before = model.full_sort_predict(interaction)
    with torch.no_grad():
        for mechanism in attentions(model):
            mechanism.gate_map.weight[6:] = 9.0
    torch.testing.assert_close(model.full_sort_predict(interaction), before, rtol=0, atol=0)


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
        ({"refinement": "stochastic"}, "refinement=stochastic needs the covariances of STOSA; use the model AWRSTOSA"),
        ({"scale": "n"}, "scale must be one of learned, sqrt_n, not 'n'"),
        ({"scale_init": 0.0}, "scale_init must lie in 1e-6 … 1e6, not 0.0"),
        ({"scale_init": 1e300}, r"scale_init must lie in 1e-6 … 1e6, not 1e\+300"),
        ({"index": "end"}, "index must be one of start, recent, not 'end'"),
        ({"mix": 2.0}, r"mix must be learned or a number in \[0, 1\], not 2.0"),
        ({"loss_type": "MSE"}, "loss_type must be CE or BPR or SSM or gBCE, not 'MSE'"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        build("AWRSR", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "dirty"}, "preset must be one of clean, released, not 'dirty'"),
        ({"combine": "sum"}, "combine must be one of fixed, annealing, gate, not 'sum'"),
        ({"gate": -1.0}, r"gate must be learned or a number in \[0, 1\], not -1.0"),
        ({"gate_width": 9}, "gate_width must be at least 10, the longest history, not 9"),
        (
            {"name": "ACBERT4Rec", "gate_width": 10},
            "at least 11, the longest history and the masked item",
        ),
        ({"attacked_layers": "first"}, "attacked_layers must be last or all, not 'first'"),
        ({"attention_layers": [2]}, r"attention_layers must be all or a list of layers from 0 to 1, not \[2\]"),
        ({"keep_start": 1.0}, r"keep_start must lie in \(0, 1\), not 1.0"),
        ({"w": -0.1}, "w must be at least 0, not -0.1"),
        ({"n_heads": 3}, "hidden_size must be a multiple of n_heads, not 64 with n_heads=3"),
        ({"n_heads": 0}, "hidden_size must be a multiple of n_heads, not 64 with n_heads=0"),
    ],
)
def test_a_bad_value_of_calibration_is_refused_by_name(changes, message):
    given = {"name": "ACTSR", **changes}
    with pytest.raises(ValueError, match=message):
        build(**given)
