"""Cross-entropy in parts is the plain one."""

import pytest
import torch
from mechanisms import Largest
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

import recbole_attn.cross_entropy
from recbole_attn.cross_entropy import chunked_cross_entropy, item_cross_entropy


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


def test_a_large_catalogue_in_float32_agrees_to_a_millionth():
    states, items, target = problem(rows=64, n_items=20_000, dtype=torch.float32)
    losses = chunked_cross_entropy(states, items, target, 4096), cross_entropy(states @ items.T, target)
    torch.testing.assert_close(*losses, rtol=0, atol=1e-6)
    for ours, theirs in zip(*(torch.autograd.grad(loss, [states, items]) for loss in losses)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_under_autocast_it_stays_exact():
    states, items, target = problem(dtype=torch.float32)
    plain = cross_entropy(states @ items.T, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        chunked = chunked_cross_entropy(states, items, target, 7)
    torch.testing.assert_close(chunked, plain)
    for ours, theirs in zip(*(torch.autograd.grad(loss, [states, items]) for loss in (chunked, plain))):
        torch.testing.assert_close(ours, theirs)


def test_gradients_of_the_chunked_loss_agree_with_finite_differences():
    states, items, target = problem(rows=3, n_items=8)
    assert torch.autograd.gradcheck(lambda s, i: chunked_cross_entropy(s, i, target, 3), [states, items])


def test_huge_scores_do_not_overflow():
    states, items, target = problem(dtype=torch.float32)
    loss = chunked_cross_entropy(states * 1e4, items, target, 7)
    torch.testing.assert_close(loss, cross_entropy(states * 1e4 @ items.T, target))


def test_in_chunks_no_scores_of_all_items_are_made_nor_kept():
    (states, items, target), chunk = problem(rows=40, n_items=500), 7
    with Largest() as made:
        loss = chunked_cross_entropy(states, items, target, chunk)
        kept = max(part.numel() for part in loss.grad_fn.saved_tensors)
        loss.backward()
    assert max(made.numbers, kept) == items.numel() < len(states) * len(items)


@pytest.mark.parametrize("chunk", [None, 7])
def test_items_that_do_not_learn_get_no_gradient_and_cost_none(chunk):
    states, items, target = problem(rows=40, n_items=500)
    expected = torch.autograd.grad(cross_entropy(states @ items.T, target), states)[0]
    constant = items.detach()
    with Largest() as made:
        item_cross_entropy(states, constant, target, chunk).backward()
    torch.testing.assert_close(states.grad, expected)
    assert items.grad is None
    assert items.shape not in made.shapes


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_chunk_below_one_is_refused(chunk):
    with pytest.raises(ValueError, match=f"ce_chunk must be at least 1, not {chunk}"):
        chunked_cross_entropy(*problem(), chunk)


@pytest.fixture(params=[1, 150, 10_000], ids=lambda scores: f"{scores} scores at a time")
def rowwise(request, monkeypatch):
    """The loss that makes a few rows' scores at a time."""
    monkeypatch.setattr(recbole_attn.cross_entropy, "_SCORES", request.param)
    monkeypatch.setattr(recbole_attn.cross_entropy, "_FEWEST_ROWS", 1)
    return item_cross_entropy


def test_a_large_catalogue_is_read_once_for_many_rows():
    class Softmaxes(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += "log_softmax" in str(function)
            return function(*args, **(kwargs or {}))

    states, items, target = problem(rows=130, n_items=200_000, dtype=torch.float32)
    with Softmaxes() as softmaxes:
        item_cross_entropy(states, items, target)
    assert softmaxes.count == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_by_row_it_is_the_plain_loss_with_the_plain_gradient(rowwise, dtype):
    states, items, target = problem(dtype=dtype)
    target[1] = target[0]
    losses = rowwise(states, items, target), cross_entropy(states @ items.T, target)
    torch.testing.assert_close(*losses, rtol=0, atol=1e-6)
    for ours, theirs in zip(*(torch.autograd.grad(3 * loss, [states, items]) for loss in losses)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_gradients_of_the_rowwise_loss_agree_with_finite_differences(rowwise):
    states, items, target = problem(rows=5, n_items=8)
    assert torch.autograd.gradcheck(lambda s, i: rowwise(s, i, target), [states, items])


def test_rowwise_products_follow_autocast(rowwise):
    states, items, target = problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = rowwise(states, items, target), cross_entropy(states @ items.T, target)
    torch.testing.assert_close(*losses, rtol=0, atol=1e-5)
    exact = cross_entropy(states @ items.T, target)
    assert abs(losses[0] - exact) > 1e-5  # it was in bf16
    for ours, theirs in zip(*(torch.autograd.grad(loss, [states, items]) for loss in losses)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.01)


def test_rowwise_without_gradients_and_with_huge_scores(rowwise):
    states, items, target = problem(dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(rowwise(states, items, target), cross_entropy(states @ items.T, target))
    huge = rowwise(states * 1e4, items, target)
    torch.testing.assert_close(huge, cross_entropy(states * 1e4 @ items.T, target))
