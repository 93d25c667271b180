"""Two losses on disjoint parameters: one backward pass gives what two separate ones would."""

import logging
import re

import pytest
import torch
from runs import command, write_chains
from test_models import batch, build

from recbole_attn.attention import Adversary
from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.cli import main
from recbole_attn.objective import Losses, held, restrict

PRESETS = pytest.mark.parametrize("preset", ["clean", "released"])
BACKBONES = pytest.mark.parametrize("name", ["ACTSR", "ACBERT4Rec"])
SIZES = {"n_layers": 2, "hidden_size": 8, "inner_size": 12, "hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2}


def make(preset, name="ACTSR", **changes):
    model = build(name, **{**SIZES, "preset": preset, "initializer_range": 0.5, "w": 0.3, **changes})
    return model.double()


def attackers(model):
    """Names of the parameters of W_aq and W_ak."""
    parts = [name for name, module in model.named_modules() if isinstance(module, Adversary)]
    return {name for name, _ in model.named_parameters() if name.startswith(tuple(parts))}


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def one_backward(model, interaction, seed=7):
    model.zero_grad()
    torch.manual_seed(seed)
    sum(model.calculate_loss(interaction)).backward()
    return gradients(model)


def two_backwards(model, interaction, seed=7):
    """Each loss by itself in a graph of its own, everything trainable; then each parameter's gradient of its loss."""
    found = {}
    for adversarial in (False, True):
        model.zero_grad()
        torch.manual_seed(seed)
        encoded, loss = model.learn(interaction)
        penalty = torch.stack([size for size in encoded.aux if size is not None]).mean()
        total = loss(encoded.hidden)
        shadow = loss(encoded.shadow)
        (model.penalty_weight * penalty - shadow if adversarial else total).backward()
        wanted = attackers(model) if adversarial else set(gradients(model)) - attackers(model)
        found.update({name: gradient for name, gradient in gradients(model).items() if name in wanted})
    model.zero_grad()
    return found


def assert_same(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert gradient is not None, name
        torch.testing.assert_close(ours[name], gradient, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def one_pass():
    """Whole sequences: a target at every position of a history."""
    interaction = batch()
    return {**interaction, "item": interaction["item_list"].roll(1, 0) * (interaction["item_list"] != 0)}


@PRESETS
@pytest.mark.parametrize(
    ("name", "make_batch"),
    [("ACTSR", batch), ("ACTSR", one_pass), ("ACBERT4Rec", batch)],
    ids=["ACTSR", "ACTSR, one pass", "ACBERT4Rec"],
)
@pytest.mark.parametrize(
    ("attacked_layers", "attention_layers"), [("last", "all"), ("all", "all"), ("last", [0]), ("all", [1])]
)
def test_every_parameter_gets_the_gradient_of_its_own_loss(preset, name, make_batch, attacked_layers, attention_layers):
    """With [0], the shadow goes through a layer of softmax attention, which reads selected rows."""
    model = make(preset, name, attacked_layers=attacked_layers, attention_layers=attention_layers)
    interaction = make_batch()
    ours = one_backward(model, interaction)
    assert_same(ours, two_backwards(model, interaction), rtol=1e-10, atol=1e-14)
    assert len(attackers(model)) == (8 if attention_layers == "all" else 4)
    assert all(ours[name].abs().max() > 0 for name in attackers(model) if "key.bias" not in name)


def test_the_attacker_is_moved_through_the_maps_of_lower_layers():
    model = make("clean", w=0.0)
    lower = [name for name in attackers(model) if ".layers.0." in name and name.endswith("weight")]
    ours = one_backward(model, batch())
    assert all(ours[name].abs().max() > 1e-8 for name in lower)


def test_the_calibrated_loss_moves_queries_through_the_keep_mask():
    """Detaching P would give W_q and W_k other gradients."""
    model, interaction = make("clean"), batch()
    exact = one_backward(model, interaction)
    for layer in model.encoder.layers:
        adversary = layer.attention.adversary
        adversary.take = lambda *args, take=adversary.take: take(*args).detach()
    torch.manual_seed(7)
    encoded, loss = model.learn(interaction)
    model.zero_grad()
    loss(encoded.hidden).backward()
    name = "encoder.layers.0.attention.query.weight"
    assert (gradients(model)[name] - exact[name]).norm() > 0.001 * exact[name].norm()


@PRESETS
@BACKBONES
def test_clipping_shortens_all_gradients_by_one_factor(preset, name):
    model, interaction = make(preset, name), batch()
    expected = two_backwards(model, interaction)
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    one_backward(model, interaction)
    torch.nn.utils.clip_grad_norm_(model.parameters(), float(norm) / 3)
    ratios = {name: gradient / 3 for name, gradient in expected.items()}
    assert_same(gradients(model), ratios, rtol=1e-5, atol=1e-14)  # clipping adds 1e-6 to the norm


@PRESETS
@BACKBONES
def test_gradients_accumulate_and_scale(preset, name):
    model, parts = make(preset, name), [batch(seed=1), batch(seed=2)]
    apart = [one_backward(model, part, seed) for seed, part in enumerate(parts)]
    apart = [{name: gradient.clone() for name, gradient in found.items()} for found in apart]
    model.zero_grad()
    for seed, part in enumerate(parts):
        torch.manual_seed(seed)
        (sum(model.calculate_loss(part)) * 8).backward()
    together = {name: 8 * (apart[0][name] + apart[1][name]) for name in apart[0]}
    assert_same(gradients(model), together, rtol=1e-10, atol=1e-14)


@PRESETS
@BACKBONES
def test_bfloat16_follows_float32(preset, name):
    """Under autocast: 1 % from two separate backward passes in autocast, 15 % from float32, both by norm."""
    model, interaction = make(preset, name).float(), batch()
    exact = {name: gradient.clone() for name, gradient in two_backwards(model, interaction).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        apart = {name: gradient.clone() for name, gradient in two_backwards(model, interaction).items()}
        torch.manual_seed(7)
        losses = model.calculate_loss(interaction)
    sum(losses).backward()
    ours = gradients(model)
    for expected, tolerance in ((apart, 0.01), (exact, 0.15)):
        for group in (attackers(model), set(ours) - attackers(model)):
            error = torch.stack([(ours[name] - expected[name]).norm() for name in group]).norm()
            assert error < tolerance * torch.stack([expected[name].norm() for name in group]).norm()


@BACKBONES
def test_the_values_are_those_of_the_losses(name):
    model, interaction = make("clean", name), batch()
    torch.manual_seed(7)
    losses = model.calculate_loss(interaction)
    torch.manual_seed(7)
    encoded, loss = model.learn(interaction)
    assert isinstance(losses, Losses)
    torch.testing.assert_close(losses.calibrated, loss(encoded.hidden))
    expected = 0.3 * torch.stack(encoded.aux).mean() - loss(encoded.shadow)
    torch.testing.assert_close(losses.adversarial, expected)


def test_held_parameters_are_constants_until_the_end():
    first, second = (torch.nn.Parameter(torch.tensor(value)) for value in (2.0, 3.0))
    with pytest.raises(ZeroDivisionError), held([first]):
        (first * second).backward()
        raise ZeroDivisionError
    assert (first.grad, second.grad) == (None, 2.0)
    assert first.requires_grad


@BACKBONES
def test_the_attack_costs_no_gradient_of_the_items(name):
    model = make("clean", name)
    encoded, loss = model.learn(batch())
    asked = []
    model._losses(encoded, lambda hidden: asked.append(model.item_embedding.weight.requires_grad) or loss(hidden))
    assert asked == [True, False]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_restricted_loss_moves_its_parameters_alone():
    first, second = (torch.tensor(value, requires_grad=True) for value in (2.0, 3.0))
    loss = restrict(first * second, [first], retain_graph=False)
    loss.backward()
    assert (loss.item(), first.grad.item(), second.grad) == (6.0, 3.0, None)


def test_without_gradients_the_losses_are_just_numbers():
    model = make("clean")
    with torch.no_grad():
        losses = model.calculate_loss(batch())
    assert not any(loss.requires_grad for loss in losses)


def test_both_losses_stand_in_the_training_log(tmp_path, caplog):
    write_chains(tmp_path)
    settings = {
        "model": "ACTSR",
        "dataset": "chains",
        "epochs": 1,
        "state": "INFO",
        "clip_grad_norm": "{'max_norm': 1}",
    }
    with caplog.at_level(logging.INFO):
        assert main(command(tmp_path, **settings)) == 0
    (line,) = [message for message in caplog.messages if "train_loss1" in message]
    calibrated, adversarial = (float(re.search(rf"train_loss{n}.*?: (-?[\d.]+)", line)[1]) for n in (1, 2))
    (last,) = (tmp_path / "saved").glob("*/last.pth")
    (epoch,) = load_checkpoint(last)["continuation"]["history"]
    assert epoch["train_losses"] == pytest.approx((calibrated, adversarial), abs=1e-3)
    assert epoch["train_loss"] == pytest.approx(calibrated + adversarial, abs=1e-3)
    assert adversarial < 0 < calibrated  # the attacker gains what the recommender would lose
