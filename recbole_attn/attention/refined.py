"""Attention to attention weights: the rows of A are compared, and their correlations R weigh again.

    A         = softmax_M(QKᵀ/√d)                     a_i = row i of A
    R         = softmax_M(c · (A U_q)(A U_k)ᵀ)        U_q, U_k ∈ R^{n×n} per head, near the identity at the start
    simple    : weights = R
    value     : weights = R A                         a two-hop path i → j → t
    value_map : weights = R softmax_M(A U_v)
    additive  : weights = (1-a)·A + a·R
    bahdanau  : as additive, with R = softmax_M(c · wᵀ tanh(a_i U_q + a_j U_k))

Source: AWRSR (RecSys 2024, arXiv 2410.21048). The idea, attention weights mapped by learnable matrices into a space of
correlations, is the abstract's; these equations are our reconstruction, since the paper's own could not be read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbole_attn.attention.base import Attention
from recbole_attn.masks import lengths_of, masked_softmax, select_rows

REFINEMENTS = ("simple", "value", "value_map", "additive", "bahdanau")
_TANH_CELLS = 1 << 24  # cells of a_i U_q + a_j U_k that exist at one time


class Refined(Attention):
    """Refined attention; see `Attention` for shapes.

    Args:
        max_length: n, the longest history; shorter ones use the first rows of the U matrices.
        refinement: one of `REFINEMENTS`.
        scale: "learned" (c per head, positive, starting at `scale_init`) or "sqrt_n" (c = 1/√n, fixed).
        scale_init: where the learned scale starts. Logits lie in [0, c], so near 1 every R would be almost uniform.
        index: what column j of a map means to the U matrices: "start", the j-th item of the history, or "recent",
            the j-th item counted back from the last one.
        mix: a of `additive` and `bahdanau`: a number in [0, 1], or "learned" (per head, starting at 1/2).

    Raises:
        ValueError: a value outside what is said above.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        n_heads: int,
        dropout: float,
        max_length: int,
        refinement: str,
        scale: str,
        scale_init: float,
        index: str,
        mix: float | str,
    ):
        super().__init__(hidden_size=hidden_size, n_heads=n_heads, dropout=dropout)
        _check(refinement, scale, scale_init, index, mix, max_length)
        self.refinement, self.index, self.max_length = refinement, index, max_length
        self.query_map = self._near_identity()
        self.key_map = self._near_identity()
        if refinement == "value_map":
            self.value_map = self._near_identity()
        if refinement == "bahdanau":
            self.judge = nn.Parameter(torch.randn(n_heads, max_length) / math.sqrt(max_length))
        learned = scale == "learned"
        start = math.log(scale_init) if learned else -0.5 * math.log(max_length)
        self.log_scale = nn.Parameter(torch.full((n_heads, 1, 1), start), requires_grad=learned)
        if mix == "learned":
            self.mix_logit = nn.Parameter(torch.zeros(n_heads, 1, 1))
        self.mix = mix

    def _near_identity(self) -> nn.Parameter:
        noise = 0.02 * torch.randn(self.n_heads, self.max_length, self.max_length)
        return nn.Parameter(torch.eye(self.max_length) + noise)

    def weigh(self, x: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        first = masked_softmax(self.scores(x), mask)
        visible = select_rows(mask, rows)
        columns = _recent_first(mask) if self.index == "recent" else None
        refined = masked_softmax(self.log_scale.exp() * self._correlate(first, rows, columns), visible)
        if self.refinement == "simple":
            return refined
        if self.refinement == "value":
            return refined @ first
        if self.refinement == "value_map":
            return refined @ masked_softmax(self._map_values(first, columns), mask)
        chosen = select_rows(first, rows)
        return chosen + self._mixture() * (refined - chosen)

    def _correlate(self, first: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """Maps (B, H, L, L) → how alike row i and row j of A are, (B, H, R, L)."""
        maps = _reorder(first, columns)
        length = maps.size(-1)
        query_map, key_map = self.query_map[:, :length], self.key_map[:, :length]
        chosen = select_rows(maps, rows)
        if self.refinement == "bahdanau":
            return self._judge_pairs(_per_head(chosen, query_map), _per_head(maps, key_map))
        return _per_head(chosen, query_map @ key_map.transpose(-1, -2)) @ maps.transpose(-1, -2)

    def _judge_pairs(self, chosen: Tensor, keys: Tensor) -> Tensor:
        """wᵀ tanh(chosen_i + keys_j) for all pairs, a few rows i at a time and recomputed for the gradient."""

        def judge(part: Tensor) -> Tensor:
            return (part.unsqueeze(-2) + keys.unsqueeze(-3)).tanh() @ self.judge[:, None, :, None]

        step = max(1, _TANH_CELLS // keys.numel())
        return torch.cat([checkpoint(judge, part, use_reentrant=False) for part in chosen.split(step, -2)], -2).squeeze(
            -1
        )

    def _map_values(self, first: Tensor, columns: Tensor | None) -> Tensor:
        length = first.size(-1)
        mapped = _per_head(_reorder(first, columns), self.value_map[:, :length, :length])
        return _reorder(mapped, columns)  # counting back twice is counting forward

    def _mixture(self) -> float | Tensor:
        return self.mix_logit.sigmoid() if self.mix == "learned" else float(self.mix)


def _recent_first(mask: Tensor) -> Tensor:
    """(B, 1, L, L) → (B, L): the position that stands r places before the last item, padding after all items."""
    length = mask.size(-1)
    back = torch.arange(length, device=mask.device)
    return (lengths_of(mask)[:, None] - 1 - back) % length


def _reorder(maps: Tensor, columns: Tensor | None) -> Tensor:
    if columns is None:
        return maps
    return maps.gather(-1, columns[:, None, None, :].expand_as(maps))


def _per_head(maps: Tensor, matrix: Tensor) -> Tensor:
    """(B, H, R, L) times (H, L, K) as one product a head; a plain matmul would make B·H small ones."""
    rows_of_heads = maps.transpose(0, 1).flatten(1, 2)
    return (rows_of_heads @ matrix).unflatten(1, (maps.size(0), -1)).transpose(0, 1)


def _check(refinement: str, scale: str, scale_init: float, index: str, mix: float | str, max_length: int) -> None:
    if max_length < 1:
        raise ValueError(f"the maximum length must be at least 1, not {max_length}")
    if refinement not in REFINEMENTS:
        raise ValueError(f"refinement must be one of {', '.join(REFINEMENTS)}, not {refinement!r}")
    if scale not in ("learned", "sqrt_n"):
        raise ValueError(f"scale must be learned or sqrt_n, not {scale!r}")
    if not scale_init > 0:
        raise ValueError(f"scale_init must be greater than 0, not {scale_init}")
    if index not in ("start", "recent"):
        raise ValueError(f"index must be start or recent, not {index!r}")
    if mix != "learned" and not (isinstance(mix, (int, float)) and 0 <= mix <= 1):
        raise ValueError(f"mix must be learned or a number in [0, 1], not {mix!r}")
