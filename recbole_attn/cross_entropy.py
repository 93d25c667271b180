"""Cross-entropy over all items, in parts: no B × N tensor is kept.

Shapes: B states, D hidden size, N items. Scores are dot products; item 0 is padding and scored like any other, as
RecBole does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

_SCORES = 1 << 20  # made at one time: 4 MiB, which a CPU's cache holds
_FEWEST_ROWS = 64  # scored at one time; with fewer, reading all items for each part costs more than the cache spares


def item_cross_entropy(states: Tensor, items: Tensor, target: Tensor, chunk: int | None = None) -> Tensor:
    """Mean cross-entropy of softmax(states @ itemsᵀ); with a `chunk`, so many items at a time.

    On a CPU some rows are scored at a time, and the gradients are made while their scores are in the cache, instead of
    making all scores, then their softmax, then the gradient of each. Other devices do that.

    Args:
        states: (B, D).
        items: (N, D).
        target: (B,) in [0, N).
        chunk: see `chunked_cross_entropy`.

    Raises:
        ValueError: chunk is less than 1.
    """
    if chunk is not None:
        return chunked_cross_entropy(states, items, target, chunk)
    if states.device.type != "cpu" or not torch.is_grad_enabled():
        return cross_entropy(states @ items.T, target)
    product = (states[:1] @ items[:1].T).dtype  # that of autocast, where it is on
    with torch.autocast("cpu", enabled=False):
        return _RowwiseCrossEntropy.apply(states.to(items.dtype), items, target, product)


class _RowwiseCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, items, target, product):
        total = states.new_zeros(())
        to_states = torch.empty_like(states)
        to_items = torch.zeros_like(items) if ctx.needs_input_grad[1] else None
        narrow = items.to(product)
        rows = max(_FEWEST_ROWS, _SCORES // len(items))
        parts = zip(states.to(product).split(rows), target.split(rows), to_states.split(rows))
        for some, hit, to_some in parts:
            scores = (some @ narrow.T).to(states.dtype).log_softmax(-1)
            total -= scores.gather(1, hit[:, None]).sum()
            chance = scores.exp_()
            chance[torch.arange(len(hit)), hit] -= 1
            chance = chance.to(product)
            to_some.copy_(chance @ narrow)
            if to_items is None:
                continue
            if product == to_items.dtype:
                to_items.addmm_(chance.T, some)
            else:
                to_items += chance.T @ some
        ctx.save_for_backward(to_states.div_(len(states)), None if to_items is None else to_items.div_(len(states)))
        return total / len(states)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        to_states, to_items = ctx.saved_tensors
        return to_states * gradient, None if to_items is None else to_items * gradient, None, None


def chunked_cross_entropy(states: Tensor, items: Tensor, target: Tensor, chunk: int) -> Tensor:
    """Mean cross-entropy of softmax(states @ itemsᵀ), equal to the plain one, in O(B · chunk) memory.

    Scores are computed again for the gradient, chunk by chunk, instead of being kept.

    Args:
        states: (B, D).
        items: (N, D).
        target: (B,) in [0, N).
        chunk: items scored at one time.

    Raises:
        ValueError: chunk is less than 1.
    """
    if chunk < 1:
        raise ValueError(f"ce_chunk must be at least 1, not {chunk}")
    with torch.autocast(states.device.type, enabled=False):  # its gradient is computed where autocast is off
        return _ChunkedCrossEntropy.apply(states.to(items.dtype), items, target, min(chunk, len(items)))


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, items, target, chunk):
        total = torch.full_like(states[:, 0], -torch.inf)
        for part in items.split(chunk):
            total = torch.logaddexp(total, (states @ part.T).logsumexp(-1))
        ctx.save_for_backward(states, items, target, total)
        ctx.chunk = chunk
        hit = torch.einsum("bd,bd->b", states, items[target])
        return (total - hit).mean()

    @staticmethod
    def backward(ctx, gradient):
        states, items, target, total = ctx.saved_tensors
        scale = gradient / len(states)
        to_states, to_items = -items[target], torch.empty_like(items) if ctx.needs_input_grad[1] else None
        for start in range(0, len(items), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            chance = (states @ items[part].T).sub_(total[:, None]).exp_()
            to_states.addmm_(chance, items[part])
            if to_items is not None:
                torch.mm(chance.T, states, out=to_items[part])
        if to_items is not None:
            to_items.index_add_(0, target, states, alpha=-1).mul_(scale)
        return to_states.mul_(scale), to_items, None, None
