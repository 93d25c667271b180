"""Cross-entropy over large catalogues: in chunks without a B × N tensor, or against sampled items.

Shapes: B states, D hidden size, N items, K sampled items. Scores are dot products; item 0 is padding and scored like
any other, as RecBole does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid


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
    return _ChunkedCrossEntropy.apply(states, items, target, chunk)


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
        return to_states * scale, to_items * scale, None, None


def sampled_softmax(states: Tensor, items: Tensor, target: Tensor, negatives: Tensor, log_q: Tensor) -> Tensor:
    """Cross-entropy of the target against shared negatives, corrected for how often each is drawn.

    Score minus log of the expected number of draws (Bengio and Senécal, 2008; Yi et al., RecSys 2019), which makes it
    approach the full cross-entropy as K grows. A negative that is a row's target does not count in that row.

    Args:
        states: (B, D).
        items: (N, D).
        target: (B,).
        negatives: (K,) items drawn with replacement.
        log_q: (N,) log of the probability that one draw is this item.
    """
    expected = log_q + torch.log(torch.tensor(float(len(negatives)), device=log_q.device))
    wrong = states @ items[negatives].T - expected[negatives]
    wrong = wrong.masked_fill(negatives == target[:, None], torch.finfo(wrong.dtype).min)
    right = torch.einsum("bd,bd->b", states, items[target])
    return cross_entropy(torch.cat([right[:, None], wrong], 1), torch.zeros_like(target))


def gbce(states: Tensor, items: Tensor, target: Tensor, negatives: Tensor, calibration: float) -> Tensor:
    """Generalised binary cross-entropy of gSASRec (Petrov and Macdonald, RecSys 2023, section 5).

    The target's probability is raised to a power β, which undoes the overconfidence that sampling brings.

    Args:
        states: (B, D).
        items: (N, D).
        target: (B,).
        negatives: (B, K) uniform draws.
        calibration: t in [0, 1]; 0 is plain binary cross-entropy, 1 is fully calibrated.

    Raises:
        ValueError: t is outside [0, 1].
    """
    if not 0 <= calibration <= 1:
        raise ValueError(f"gbce_t must lie in [0, 1], not {calibration}")
    share = negatives.size(1) / (len(items) - 2)  # of the items that are neither padding nor the target
    power = share * (calibration * (1 - 1 / share) + 1 / share)
    right = torch.einsum("bd,bd->b", states, items[target])
    wrong = torch.einsum("bd,bkd->bk", states, items[negatives])
    return -(power * logsigmoid(right) + logsigmoid(-wrong).sum(1)).mean()
