"""Cross-entropy over large catalogues, in chunks: no B × N tensor is kept.

Shapes: B states, D hidden size, N items. Scores are dot products; item 0 is padding and scored like any other, as
RecBole does.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
        return _ChunkedCrossEntropy.apply(states.to(items.dtype), items, target, chunk)


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
        to_states, to_items = -items[target], torch.empty_like(items)
        for start in range(0, len(items), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            chance = (states @ items[part].T).sub_(total[:, None]).exp_()
            to_states.addmm_(chance, items[part])
            torch.mm(chance.T, states, out=to_items[part])
        to_items.index_add_(0, target, states, alpha=-1)
        return to_states.mul_(scale), to_items.mul_(scale), None, None
