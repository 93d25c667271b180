"""The laws that every mechanism obeys."""

import pytest
import reference_focused
import torch
from mechanisms import MECHANISMS, make

from recbole_attn.attention.base import split_heads
from recbole_attn.masks import bidirectional_mask, causal_mask, masked_softmax, select_rows

LENGTHS = (7, 4, 1)

pytestmark = pytest.mark.parametrize("name", MECHANISMS)


@pytest.fixture(params=[causal_mask, bidirectional_mask], ids=["causal", "bidirectional"])
def make_mask(request):
    return request.param


def histories(width=7):
    """Item ids (3, width) of histories as long as LENGTHS, if they fit, padded on the right."""
    seq = torch.zeros(len(LENGTHS), width, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        seq[row, :length] = torch.arange(1, min(length, width) + 1)
    return seq


def inputs(width=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LENGTHS), width, 8, generator=generator, dtype=torch.float64)


def real_rows(width=7):
    return (histories(width) != 0)[:, None, :, None]


def test_weights_are_zero_outside_the_mask(name, make_mask):
    mask = make_mask(histories())
    weights = make(name).weigh(inputs(), mask)
    assert weights.shape == (3, 2, 7, 7)
    assert weights.masked_select(~mask).abs().max() == 0
    smallest = weights.masked_select(mask).abs().min()
    assert smallest == 0 if "positive" in name else smallest > 0


def test_an_item_without_history_reads_nothing_and_has_finite_gradients(name):
    seq = histories()
    seq[1] = 0
    x, mechanism = inputs().requires_grad_(), make(name)
    mask = causal_mask(seq)
    attended = mechanism.attend(x, split_heads(x, 2), mask).context
    attended.square().sum().backward()
    assert mechanism.weigh(x, mask)[1].abs().max() == 0
    assert attended[1].abs().max() == 0
    assert x.grad.isfinite().all()


def test_the_fast_form_equals_the_loops_in_value_and_gradient(name, make_mask):
    mechanism, x, mask = make(name), inputs(5), make_mask(histories(5))
    inner = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    leaves = [x.requires_grad_(), *(p for p in mechanism.parameters() if p.requires_grad)]
    fast = mechanism.weigh(x, mask)
    slow = MECHANISMS[name][1](mechanism, x, mask)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    fast_gradients = torch.autograd.grad((fast * inner).sum(), leaves)
    slow_gradients = torch.autograd.grad((slow * inner).sum(), leaves)
    for ours, theirs in zip(fast_gradients, slow_gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_gradients_agree_with_finite_differences(name, make_mask):
    mechanism, mask = make(name), make_mask(histories(4)[:2])
    x = inputs(4)[:2].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mechanism.attend(x, split_heads(x, 2), mask).context, x)


def test_attending_is_the_weights_times_the_values(name, make_mask):
    mechanism, x, mask = make(name), inputs(), make_mask(histories())
    values = split_heads(inputs(seed=3), 2)
    context, weights = mechanism.attend(x, values, mask).context, mechanism.weigh(x, mask)
    if name.startswith("stochastic"):
        means, covariances = values.chunk(2, -1)
        expected = torch.cat([weights @ means, weights.square() @ covariances], -1)
    else:
        expected = weights @ values
    if "normed" in name:
        expected = reference_focused.normed(mechanism, expected)
    torch.testing.assert_close(context, expected)


def test_future_items_do_not_change_past_weights(name):
    if "recent" in name:
        pytest.skip("places counted back from the last item move when an item is appended")
    mechanism, mask = make(name), causal_mask(histories())
    x = inputs().requires_grad_()
    before = mechanism.weigh(x, mask)
    changed = x.detach().clone()
    changed[0, 5:] += 1
    torch.testing.assert_close(mechanism.weigh(changed, mask)[0, :, :5], before[0, :, :5], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(before[0, :, :5].square().sum(), x)
    assert gradient[0, 5:].abs().max() == 0
    assert gradient[0, :5].abs().max() > 0


def test_more_padding_changes_nothing(name, make_mask):
    mechanism, x = make(name), inputs(9)
    wide = mechanism.weigh(x, make_mask(histories(9)))[..., :7, :7]
    narrow = mechanism.weigh(x[:, :7], make_mask(histories(7)))
    torch.testing.assert_close(wide * real_rows(), narrow * real_rows())


def test_rows_of_a_batch_do_not_influence_each_other(name, make_mask):
    mechanism, x, mask = make(name), inputs(), make_mask(histories())
    together = mechanism.weigh(x, mask)
    for row in range(3):
        alone = mechanism.weigh(x[row : row + 1], mask[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_computing_selected_rows_only_changes_nothing(name, make_mask):
    mechanism, x, mask = make(name), inputs(), make_mask(histories())
    rows, values = torch.tensor([[6, 2], [3, 0], [0, 0]]), split_heads(inputs(seed=3), 2)
    torch.testing.assert_close(mechanism.weigh(x, mask, rows), select_rows(mechanism.weigh(x, mask), rows))
    some, every = (mechanism.attend(x, values, mask, choice).context for choice in (rows, None))
    torch.testing.assert_close(some, select_rows(every, rows))


def test_rows_of_the_weights_sum_to_one_or_to_the_difference_of_lambdas(name, make_mask):
    mechanism = make(name)
    total = mechanism.weigh(inputs(), make_mask(histories())).sum(-1)
    expected = reference_focused.row_sums(mechanism, total) if "focused" in name else torch.ones_like(total)
    torch.testing.assert_close(total, expected)


def test_the_neutral_setting_is_plain_softmax(name, make_mask):
    if not name.startswith("additive"):
        pytest.skip("no neutral setting")
    mechanism, x, mask = make(name), inputs(), make_mask(histories())
    mechanism.refinement.mix = 0.0
    torch.testing.assert_close(mechanism.weigh(x, mask), masked_softmax(mechanism.scores(x), mask))


def test_half_precision_follows_float32(name):
    mechanism, mask = make(name).float(), causal_mask(histories())
    x = inputs().float()
    exact = mechanism.weigh(x, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = mechanism.weigh(x, mask)
    assert (rough.float() - exact).abs().max() < 0.1
