"""Losses for large catalogues are the plain ones: exactly in chunks, in the limit with samples."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from recbole_attn.cross_entropy import chunked_cross_entropy, gbce, sampled_softmax


def problem(rows=12, n_items=50, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(rows, 6, generator=generator, dtype=dtype, requires_grad=True)
    items = torch.randn(n_items, 6, generator=generator, dtype=dtype, requires_grad=True)
    return states, items, torch.randint(1, n_items, (rows,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_chunks_it_is_the_plain_loss_with_the_plain_gradient(chunk, dtype):
    states, items, target = problem(dtype=dtype)
    target[1] = target[0]
    plain = cross_entropy(states @ items.T, target)
    chunked = chunked_cross_entropy(states, items, target, chunk)
    torch.testing.assert_close(chunked, plain, rtol=0, atol=1e-6)
    for ours, theirs in zip(*(torch.autograd.grad(3 * loss, [states, items]) for loss in (chunked, plain))):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_gradients_of_the_chunked_loss_agree_with_finite_differences():
    states, items, target = problem(rows=3, n_items=8)
    assert torch.autograd.gradcheck(lambda s, i: chunked_cross_entropy(s, i, target, 3), [states, items])


def test_huge_scores_do_not_overflow():
    states, items, target = problem(dtype=torch.float32)
    loss = chunked_cross_entropy(states * 1e4, items, target, 7)
    torch.testing.assert_close(loss, cross_entropy(states * 1e4 @ items.T, target))


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_chunk_below_one_is_refused(chunk):
    with pytest.raises(ValueError, match=f"ce_chunk must be at least 1, not {chunk}"):
        chunked_cross_entropy(*problem(), chunk)


def test_sampled_softmax_with_a_skewed_distribution_approaches_the_full_loss():
    states, items, target = problem()
    torch.manual_seed(0)
    chance = torch.rand(50, dtype=torch.float64) ** 2 + 0.01
    chance /= chance.sum()
    negatives = torch.multinomial(chance, 200_000, replacement=True)
    sampled = sampled_softmax(states, items, target, negatives, chance.log())
    wrong = sampled_softmax(states, items, target, negatives, torch.full((50,), 1 / 50, dtype=torch.float64).log())
    full = cross_entropy(states @ items.T, target)
    assert abs(sampled - full) < 0.01
    assert abs(wrong - full) > 0.03


def test_gbce_without_calibration_is_binary_cross_entropy():
    states, items, target = problem()
    negatives = torch.randint(1, 50, (12, 5))
    right, wrong = (states * items[target]).sum(1), torch.einsum("bd,bkd->bk", states, items[negatives])
    plain = binary_cross_entropy_with_logits(right, torch.ones_like(right), reduction="sum")
    plain += binary_cross_entropy_with_logits(wrong, torch.zeros_like(wrong), reduction="sum")
    torch.testing.assert_close(gbce(states, items, target, negatives, 0.0), plain / 12)


def test_full_calibration_weighs_the_target_by_the_share_of_items_drawn():
    states, items, target = problem()
    negatives = torch.randint(1, 50, (12, 5))
    right, wrong = (states * items[target]).sum(1), torch.einsum("bd,bkd->bk", states, items[negatives])
    expected = -(5 / 48 * right.sigmoid().log() + (-wrong).sigmoid().log().sum(1)).mean()
    torch.testing.assert_close(gbce(states, items, target, negatives, 1.0), expected)


def test_a_calibration_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"gbce_t must lie in \[0, 1\], not 1.5"):
        gbce(*problem(), torch.ones(12, 2, dtype=torch.long), 1.5)
