"""Calibrated attention: both calibrators against loops, and what a layer and an encoder do with an attacked context."""

import pytest
import reference_calibrated
import torch
from mechanisms import CLEAN, RELEASED, Largest, calibrated, far_from_uniform
from torch import nn

from recbole_attn.attention import Softmax
from recbole_attn.attention.base import split_heads
from recbole_attn.encoder import Encoder, Layer
from recbole_attn.masks import bidirectional_mask, causal_mask, masked_softmax, select_rows

PRESETS = pytest.mark.parametrize("preset", [CLEAN, RELEASED], ids=["clean", "released"])
MASKS = pytest.mark.parametrize("make_mask", [causal_mask, bidirectional_mask], ids=["causal", "bidirectional"])


def make(preset=CLEAN, **changes):
    torch.manual_seed(2)
    return far_from_uniform(calibrated(preset, **changes))


def histories(length, batch=2):
    """(batch, length) ids: the first history is full, the next ones shorter and shorter."""
    return of_lengths(length, [length - 2 * row for row in range(batch)])


def of_lengths(length, lengths):
    """(rows, length) ids: one history of each length, padded."""
    return torch.arange(1, length + 1) * (torch.arange(length) < torch.tensor(lengths)[:, None])


def inputs(length, batch=2):
    return torch.randn(batch, length, 8, generator=torch.Generator().manual_seed(length)).double()


def fix_noise(mechanism, noise):
    """Let the attack draw the given Gaussian numbers."""
    adversary = mechanism.adversary
    made = (lambda mask: masked_softmax(noise, mask)) if adversary.noise == "attention" else (lambda mask: noise)
    adversary.draw_noise = lambda weights, mask: made(mask)


class Factors(nn.Module):
    """Dropout that multiplies with the given factors, one after the other."""

    def __init__(self, *factors):
        super().__init__()
        self.factors = list(factors)

    def forward(self, x):
        return x * self.factors.pop(0)


def assert_same_values_and_gradients(fast, slow, leaves):
    """Of several results at once: their values, and the gradients of a random mixture of all their cells."""
    generator = torch.Generator().manual_seed(5)
    mixtures = [0.0, 0.0]
    for ours, theirs in zip(fast, slow):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
        inner = torch.randn(ours.shape, generator=generator).double()
        mixtures = [mixtures[0] + (ours * inner).sum(), mixtures[1] + (theirs * inner).sum()]
    ours, theirs = (torch.autograd.grad(mixture, leaves) for mixture in mixtures)
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)


@PRESETS
@MASKS
@pytest.mark.parametrize(("length", "lengths"), [(1, [1, 0]), (2, [2, 1, 0]), (7, [7, 5, 1]), (50, [50, 3])])
def test_both_maps_and_the_penalty_equal_the_loops_in_value_and_gradient(preset, make_mask, length, lengths):
    mechanism, batch = make(preset, max_length=50), len(lengths)
    x, mask = inputs(length, batch).requires_grad_(), make_mask(of_lengths(length, lengths))
    noise = torch.randn(batch, 2, length, length, generator=torch.Generator().manual_seed(9)).double()
    fix_noise(mechanism, noise)
    slow = reference_calibrated.calibration(mechanism, x, mask, noise)
    everything = torch.eye(length).double().expand(batch, 2, -1, -1)  # as values: the context is the map itself
    fast = mechanism.attend(x, everything, mask)
    assert_same_values_and_gradients(fast, slow, [x, *mechanism.parameters()])


@PRESETS
def test_dropout_acts_where_the_preset_says(preset):
    length = 5
    mechanism, x, mask = make(preset), inputs(length), causal_mask(histories(length))
    first, second = (torch.rand(2, 2, length, length).double() * 2 for _ in range(2))
    everything = torch.eye(length).double().expand(2, 2, -1, -1)
    noise = torch.zeros(2, 2, length, length).double()
    fix_noise(mechanism, noise)
    mechanism.dropout = Factors(first, second)
    context, shadow, penalty = mechanism.attend(x, everything, mask)
    if preset is CLEAN:
        slow = reference_calibrated.calibration(mechanism, x, mask, noise)
        slow = slow._replace(combined=slow.combined * first, attacked=slow.attacked * second)
    else:
        slow = reference_calibrated.calibration(mechanism, x, mask, noise, first, second)
    for fast, loops in zip((context, shadow, penalty), slow):
        torch.testing.assert_close(fast, loops)


@PRESETS
def test_an_attacked_map_is_zero_outside_the_mask_and_sums_to_one(preset):
    mechanism, x, mask = make(preset), inputs(7), causal_mask(histories(7))
    everything = torch.eye(7).double().expand(2, 2, -1, -1)
    shadow = mechanism.attend(x, everything, mask).shadow
    assert shadow.masked_select(~mask).abs().max() == 0
    torch.testing.assert_close(shadow.sum(-1), torch.ones(2, 2, 7).double())


@PRESETS
def test_a_shadow_of_selected_rows_is_that_of_all_rows(preset):
    mechanism, x, mask, rows = make(preset), inputs(7), causal_mask(histories(7)), torch.tensor([[6, 0], [4, 2]])
    values, noise = split_heads(inputs(7), 2), torch.randn(2, 2, 7, 7).double()
    fix_noise(mechanism, noise)
    every = mechanism.attend(x, values, mask).shadow
    fix_noise(mechanism, select_rows(noise, rows))
    torch.testing.assert_close(mechanism.attend(x, values, mask, rows).shadow, select_rows(every, rows))


def test_the_clean_penalty_counts_the_rows_that_are_read_and_the_released_one_all_rows():
    x, mask, rows = inputs(7), causal_mask(histories(7)), torch.tensor([[6], [4]])
    values = split_heads(x, 2)
    for preset, same in ((CLEAN, False), (RELEASED, True)):
        some, every = (make(preset).attend(x, values, mask, choice).aux for choice in (rows, None))
        assert torch.isclose(some, every) == same


def test_the_clean_penalty_depends_neither_on_padding_nor_on_the_size_of_the_batch():
    mechanism, x = make(), inputs(7)
    penalty = mechanism.attend(x, split_heads(x, 2), causal_mask(histories(7))).aux
    wide, twice = nn.functional.pad(x, (0, 0, 0, 2), value=1.0), x.repeat(2, 1, 1)
    padded = mechanism.attend(wide, split_heads(wide, 2), causal_mask(nn.functional.pad(histories(7), (0, 2)))).aux
    doubled = mechanism.attend(twice, split_heads(twice, 2), causal_mask(histories(7).repeat(2, 1))).aux
    torch.testing.assert_close(penalty, padded)
    torch.testing.assert_close(penalty, doubled)


def test_the_clean_penalty_counts_a_row_once_however_often_it_is_read():
    mechanism, x, mask = make(), inputs(7), causal_mask(histories(7))
    once, twice = torch.tensor([[1, 3]]).expand(len(x), -1), torch.tensor([[1, 3, 1, 1]]).expand(len(x), -1)
    penalties = [mechanism.attend(x, split_heads(x, 2), mask, rows).aux for rows in (once, twice)]
    torch.testing.assert_close(*penalties)


def test_an_attack_that_takes_nothing_has_no_size_and_a_finite_gradient():
    mechanism, x = make(), inputs(3).requires_grad_()
    mechanism.adversary.start = 1e4
    penalty = mechanism.attend(x, split_heads(x, 2), causal_mask(histories(3))).aux
    penalty.backward()
    assert penalty < 1e-100
    assert all(p.grad.isfinite().all() for p in mechanism.adversary.parameters())


def test_an_item_without_history_gives_finite_gradients_to_the_attack():
    for preset in (CLEAN, RELEASED):
        mechanism, x, seq = make(preset), inputs(3).requires_grad_(), histories(3)
        seq[1] = 0
        _, shadow, penalty = mechanism.attend(x, split_heads(x, 2), causal_mask(seq))
        (shadow.square().sum() + penalty).backward()
        assert shadow[1].abs().max() == 0
        assert x.grad.isfinite().all()


def test_a_clean_attacker_starts_by_keeping_nearly_everything():
    adversary = calibrated().adversary
    for parameter in adversary.parameters():
        nn.init.zeros_(parameter)
    x = inputs(4).float()
    taken = adversary.take(x, x, causal_mask(histories(4)), None)
    torch.testing.assert_close(taken, torch.full_like(taken, 0.3))  # keep_start of the tests is .7


@PRESETS
def test_noise_is_what_the_preset_says(preset):
    mask = causal_mask(histories(50))
    noise = make(preset, max_length=50).adversary.draw_noise(torch.zeros(2, 2, 50, 50).double(), mask)
    if preset is CLEAN:
        torch.testing.assert_close(noise.sum(-1), torch.ones(2, 2, 50).double())
        assert noise.masked_select(~mask).abs().max() == 0
        assert noise[0, :, 49].std() > 0.005
    else:
        assert abs(noise.mean()) < 0.05
        assert abs(noise.std() - 1) < 0.05


def test_evaluation_attacks_nothing_and_draws_nothing():
    mechanism, x = make().eval(), inputs(5)
    mechanism.adversary.draw_noise = None
    context, shadow, penalty = mechanism.attend(x, split_heads(x, 2), causal_mask(histories(5)))
    assert context.isfinite().all()
    assert shadow is None
    assert penalty is None


def test_order_tells_the_future_from_the_past_and_distance_tells_near_from_far():
    mechanism = make(distance=False, adversarial=False)
    with torch.no_grad():
        for parameter in (mechanism.spatial.order.weight, *mechanism.query.parameters(), *mechanism.key.parameters()):
            parameter.zero_()
        mechanism.spatial.order.bias.fill_(2.0)  # whoever is asked says "ahead"
    row = mechanism.weigh(inputs(5), bidirectional_mask(histories(5)))[0, 0, 2]
    assert row[3] == row[4] > row[0] == row[1] == row[2]

    mechanism = make(order=False, adversarial=False)
    with torch.no_grad():
        for parameter in (mechanism.spatial.distance.weight, *mechanism.query.parameters()):
            parameter.zero_()
        mechanism.spatial.distance.bias.fill_(0.0)  # whoever is asked says "here"
    row = mechanism.weigh(inputs(5), bidirectional_mask(histories(5)))[0, 0, 2]
    assert row[2] > row[1] == row[3] > row[0] == row[4]


def test_nothing_calibrated_is_plain_softmax():
    mechanism, x, mask = make(order=False, distance=False, gate=1), inputs(6), causal_mask(histories(6))
    plain = Softmax(hidden_size=8, n_heads=2, dropout=0.0).double()
    plain.load_state_dict(mechanism.state_dict(), strict=False)
    torch.testing.assert_close(mechanism.weigh(x, mask), plain.weigh(x, mask))


def test_annealing_goes_from_the_map_to_its_calibration_by_training_steps():
    mechanism, x, mask = make(combine="annealing"), inputs(6), causal_mask(histories(6))
    plain, calibration = (make(gate=share).weigh(x, mask) for share in (1, 0))
    torch.testing.assert_close(mechanism.weigh(x, mask), plain)
    mechanism.step += 10_000_000
    torch.testing.assert_close(mechanism.weigh(x, mask), calibration)
    mechanism.advance()
    assert mechanism.state_dict()["step"] == 10_000_001


@PRESETS
def test_a_training_step_makes_no_tensor_beyond_one_map(preset):
    """Nor does it build what the affine maps of both calibrators read: queries beside keys, for each cell of a map."""
    mechanism, x, mask = make(preset, max_length=50).train(), inputs(50).requires_grad_(), causal_mask(histories(50))
    with Largest() as seen:
        context, shadow, penalty = mechanism.attend(x, split_heads(x, 2), mask)
        (context.sum() + shadow.sum() + penalty).backward()
    assert seen.numbers == 2 * 2 * 50 * 50


@PRESETS
def test_half_precision_attacks_as_float32_does(preset):
    mechanism, x, mask = make(preset).float(), inputs(7).float(), causal_mask(histories(7))
    fix_noise(mechanism, torch.randn(2, 2, 7, 7))
    exact = mechanism.attend(x, split_heads(x, 2), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = mechanism.attend(x, split_heads(x, 2), mask)
    torch.testing.assert_close(rough.shadow.float(), exact.shadow, rtol=0.1, atol=0.1)
    torch.testing.assert_close(rough.aux.float(), exact.aux, rtol=0.02, atol=0)


def stack(attacks):
    """An encoder whose layer n attacks if attacks[n]; None stands for softmax attention."""
    sizes = {"hidden_size": 8, "inner_size": 12, "dropout": 0.0, "activation": "gelu", "norm_eps": 1e-12}
    kinds = [Softmax(hidden_size=8, n_heads=2, dropout=0.0) if a is None else calibrated(attacks=a) for a in attacks]
    encoder = Encoder(Layer(kind, **sizes) for kind in kinds).double()
    for mechanism in kinds:
        if isinstance(mechanism, type(calibrated())):
            mechanism.adversary.draw_noise = lambda weights, mask: masked_softmax(torch.zeros_like(weights), mask)
    return encoder


def test_a_shadow_is_finished_by_the_weights_of_its_layer_and_touches_no_hidden_state():
    encoder, x, mask, rows = stack([False, True]), inputs(6), causal_mask(histories(6)), torch.tensor([[5], [3]])
    encoded = encoder(x, mask, rows)
    below, last = encoder.layers[0](x, mask).hidden, encoder.layers[1]
    attended = last.attention.attend(below, split_heads(last.value(below), 2), mask, rows)
    torch.testing.assert_close(encoded.shadow, last.finish(select_rows(below, rows), attended.shadow))
    torch.testing.assert_close(encoded.hidden, encoder.eval()(x, mask, rows).hidden)
    assert encoder(x, mask, rows).shadow is None


@pytest.mark.parametrize("above", [True, False, None], ids=["attacks again", "calibrates", "softmax"])
def test_a_shadow_goes_through_all_later_layers(above):
    encoder, x, mask = stack([True, above]), inputs(6), causal_mask(histories(6))
    encoded, (first, second) = encoder(x, mask), encoder.layers
    beside = second(first(x, mask).shadow, mask)
    torch.testing.assert_close(encoded.shadow, beside.shadow if above else beside.hidden)
    torch.testing.assert_close(encoded.hidden, second(first(x, mask).hidden, mask).hidden)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"combine": "sum"}, "combine must be one of fixed, annealing, gate, not 'sum'"),
        ({"gate": 2.0}, r"gate must be learned or a number in \[0, 1\], not 2.0"),
        ({"dropout_on": "both"}, "dropout_on must be one of maps, weights, not 'both'"),
        ({"preset": {**CLEAN, "renorm": "sum"}}, "renorm must be one of softmax, divide, not 'sum'"),
        ({"preset": {**CLEAN, "noise": "uniform"}}, "noise must be one of gaussian, attention, not 'uniform'"),
        ({"preset": {**CLEAN, "keep_mask": "hard"}}, "keep_mask must be one of softmax, sigmoid, not 'hard'"),
        ({"preset": {**CLEAN, "noise": "gaussian"}}, "noise=gaussian needs renorm=softmax"),
        ({"preset": CLEAN, "dropout_on": "maps"}, "dropout_on=maps needs renorm=softmax"),
        ({"preset": {**CLEAN, "penalty": "l1"}}, "penalty must be one of frobenius, rms, not 'l1'"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        calibrated(**changes)
