"""Bahdanau's score of every pair of rows, wᵀ tanh(a + b), of which few are in memory at one time.

Shapes: B histories, H heads, R rows of one kind and L of the other, n their width. B·H·R·L·n values of tanh would fill
a memory, so that they are made a few at a time, each a second time for the gradient.

Source of the score: Bahdanau et al., arXiv 1409.0473, appendix A.1.2. That AWRSR compares rows by it is our
reconstruction.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CELLS = 1 << 18  # of tanh at one time: 1 MiB, which a CPU's cache holds
_CELLS_ELSEWHERE = 1 << 24


@torch.compiler.disable
def bahdanau_scores(queries: Tensor, keys: Tensor, judge: Tensor, seen: Tensor) -> Tensor:
    """wᵀ tanh(queries_i + keys_j), (B, H, R, L).

    Args:
        queries: (B, H, R, n).
        keys: (B, H, L, n).
        judge: w of each head, (H, n).
        seen: (B, 1, R, L), true where a pair matters. Keys that stand after the last one that any history sees from row
            i score 0 there: with a causal mask, half of all pairs.
    """
    last = torch.arange(1, keys.size(-2) + 1, device=seen.device)
    reach = (seen[:, 0].any(0) * last).amax(-1).tolist()
    judges = judge.expand(len(queries), -1, -1).flatten(0, 1)
    with torch.autocast(queries.device.type, enabled=False):  # its gradient is computed where autocast is off
        scores = _PairScores.apply(queries.flatten(0, 1), keys.flatten(0, 1), judges, reach)
    return scores.unflatten(0, queries.shape[:2])


class _PairScores(torch.autograd.Function):
    """Of (M, R, n), (M, L, n) and (M, n); row i is held against the first reach[i] keys.

    tanh(x) is made as 2σ(2x) - 1, for a CPU is slower at tanh than at σ.
    """

    @staticmethod
    def forward(ctx, queries, keys, judges, reach):
        ctx.save_for_backward(queries, keys, judges)
        ctx.reach = reach
        scores = queries.new_zeros(*queries.shape[:2], keys.size(1))
        total = judges.sum(-1, keepdim=True)
        for i, some, first, sigma in _parts(queries, keys, reach):
            weighed = sigma.mul_(judges[some, None]).sum(-1)
            scores[some, i, first] = weighed.mul_(2).sub_(total[some])
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        queries, keys, judges = ctx.saved_tensors
        to_queries, to_keys, to_judges = torch.zeros_like(queries), torch.zeros_like(keys), torch.zeros_like(judges)
        for i, some, first, sigma in _parts(queries, keys, ctx.reach):
            mine = gradient[some, i, first]
            slope = sigma * mine[..., None]
            to_judges[some] += slope.sum(1).mul_(2).sub_(mine.sum(-1, keepdim=True))
            slope.addcmul_(slope, sigma, value=-1)  # a quarter of what tanh's slope makes of `mine`
            to_keys[some, first] += slope
            to_queries[some, i] = slope.sum(1)
        judges = 4 * judges[:, None]
        return to_queries.mul_(judges), to_keys.mul_(judges), to_judges, None


def _parts(queries: Tensor, keys: Tensor, reach: list[int]):
    """A row of as many maps at a time as may be: the row, the maps, the keys that it reaches, σ(2x) of each pair."""
    cells = _CELLS if keys.device.type == "cpu" else _CELLS_ELSEWHERE
    queries, keys = 2 * queries, 2 * keys
    for i, count in enumerate(reach):
        step = max(1, cells // max(1, count * keys.size(-1)))
        for start in range(0, len(keys) if count else 0, step):
            some, first = slice(start, start + step), slice(count)
            yield i, some, first, (queries[some, i, None] + keys[some, first]).sigmoid_()
