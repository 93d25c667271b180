"""Attention to attention weights: the rows of a map A are compared, and their correlations R weigh again.

    R          = softmax_M(c · (A U_q)(A U_k)ᵀ)       a_i = row i of A
                                                      U_q, U_k, … ∈ R^{n×n} per head, near the identity at the start
    simple     : weights = R
    value      : weights = R A                        a two-hop path i → j → t
    value_map  : weights = R softmax_M(A U_v)
    additive   : weights = (1-a)·A + a·R
    bahdanau   : as additive, with R = softmax_M(c · wᵀ tanh(a_i U_q + a_j U_k))
    stochastic : weights = R = softmax_M(-c · W₂²(i, j)), row i being a Gaussian with mean a_i U_μ and covariance
                 ELU(a_i U_Σ) + 1; see gaussian.py

Source: AWRSR (RecSys 2024, arXiv 2410.21048). The idea, attention weights mapped by learnable matrices into a space of
correlations, is the abstract's; these equations are our reconstruction, since the paper's own could not be read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recbole_attn.attention.bahdanau import bahdanau_scores
from recbole_attn.attention.base import full_precision, one_of
from recbole_attn.attention.gaussian import nearness, nearness_within, shifted_points
from recbole_attn.attention.maps import per_head, recent_first, reorder
from recbole_attn.masks import masked_softmax, select_rows

MIXTURES = ("additive", "bahdanau")
CORRELATIONS = ("simple", "value", "value_map", *MIXTURES)
REFINEMENTS = (*CORRELATIONS, "stochastic")


class Refinement(nn.Module):
    """Makes the final weights of a first map.

    Args:
        n_heads: H.
        max_length: n, the longest history; shorter ones use the first rows of the U matrices.
        refinement: one of `REFINEMENTS`.
        scale: "learned" (c per head, positive, starting at `scale_init`) or "sqrt_n" (c = 1/√n, fixed).
        scale_init: where the learned scale starts. Correlations of maps are small at first, so near 1 every R would be
            almost uniform.
        index: what column j of a map means to the U matrices: "start", the j-th item of the history, or "recent",
            the j-th item counted back from the last one.
        mix: a of `MIXTURES`: a number in [0, 1], or "learned" (per head, starting at 1/2).

    Raises:
        ValueError: a value outside what is said above.
    """

    def __init__(
        self,
        *,
        n_heads: int,
        max_length: int,
        refinement: str,
        scale: str,
        scale_init: float,
        index: str,
        mix: float | str,
    ):
        super().__init__()
        if max_length < 1:
            raise ValueError(f"the maximum length must be at least 1, not {max_length}")
        if not 1e-6 <= scale_init <= 1e6:
            raise ValueError(f"scale_init must lie in 1e-6 … 1e6, not {scale_init}")
        if mix != "learned" and not (isinstance(mix, (int, float)) and 0 <= mix <= 1):
            raise ValueError(f"mix must be learned or a number in [0, 1], not {mix!r}")
        self.n_heads, self.max_length, self.mix = n_heads, max_length, mix
        self.kind = one_of("refinement", refinement, REFINEMENTS)
        self.index = one_of("index", index, ("start", "recent"))
        self._make_maps()
        learned = one_of("scale", scale, ("learned", "sqrt_n")) == "learned"
        start = math.log(scale_init) if learned else -0.5 * math.log(max_length)
        self.log_scale = nn.Parameter(torch.full((n_heads, 1, 1), start), requires_grad=learned)
        if mix == "learned" and refinement in MIXTURES:
            self.mix_logit = nn.Parameter(torch.zeros(n_heads, 1, 1))

    def _make_maps(self) -> None:
        if self.kind == "stochastic":
            self.mean_map, self.covariance_map = self._near_identity(), self._near_identity()
            return
        self.query_map, self.key_map = self._near_identity(), self._near_identity()
        if self.kind == "value_map":
            self.value_map = self._near_identity()
        if self.kind == "bahdanau":
            self.judge = nn.Parameter(torch.randn(self.n_heads, self.max_length) / math.sqrt(self.max_length))

    def _near_identity(self) -> nn.Parameter:
        noise = 0.02 * torch.randn(self.n_heads, self.max_length, self.max_length)
        return nn.Parameter(torch.eye(self.max_length) + noise)

    def forward(self, first: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        """A (B, H, L, L) and its mask (B, 1, L, L) → final weights (B, H, R, L) in `rows` (B, R), None for all.

        Raises:
            ValueError: L is greater than n.
        """
        *_, final = self.stages(first, mask, rows).values()
        return final

    def stages(self, first: Tensor, mask: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        """A itself, R and, where R is not final yet, what becomes of the two; arguments and errors as in `forward`."""
        if first.size(-1) > self.max_length:
            raise ValueError(
                f"refined attention was made for histories of up to {self.max_length} items, and these have "
                f"{first.size(-1)}; raise MAX_ITEM_LIST_LENGTH before training, or cut them"
            )
        columns = recent_first(mask) if self.index == "recent" else None
        seen = select_rows(mask, rows)
        refined = masked_softmax(self._correlate(reorder(first, columns), rows, seen), seen)
        stages = {"A": first, "R": refined}
        if self.kind == "value":
            stages["final"] = refined @ first
        elif self.kind == "value_map":
            stages["final"] = refined @ masked_softmax(self._map_values(first, columns), mask)
        elif self.kind in MIXTURES:
            stages["final"] = self._mix(select_rows(first, rows), refined)
        return stages

    def _correlate(self, maps: Tensor, rows: Tensor | None, seen: Tensor) -> Tensor:
        """Maps (B, H, L, L) → c times how alike rows i and j are, (B, H, R, L); what is not `seen` may be anything."""
        length, scale = maps.size(-1), self.log_scale.exp()
        if self.kind == "stochastic":
            keys = self._gaussians(maps)
            return scale * (nearness_within(keys) if rows is None else nearness(select_rows(keys, rows), keys))
        chosen, query_map, key_map = select_rows(maps, rows), self.query_map[:, :length], self.key_map[:, :length]
        if self.kind == "bahdanau":
            queries, keys = (full_precision(per_head(*pair)) for pair in ((chosen, query_map), (maps, key_map)))
            return scale * bahdanau_scores(queries, keys, self.judge, seen)
        both = scale * query_map @ key_map.transpose(-1, -2)  # scaled here, where a map is small
        return per_head(chosen, both) @ maps.transpose(-1, -2)

    def _gaussians(self, maps: Tensor) -> Tensor:
        """Maps (B, H, L, L) → the points of their rows (B, H, L, 2n)."""
        both = torch.cat([self.mean_map, self.covariance_map], -1)[:, : maps.size(-1)]
        return shifted_points(full_precision(per_head(maps, both)))

    def _map_values(self, first: Tensor, columns: Tensor | None) -> Tensor:
        length = first.size(-1)
        mapped = per_head(reorder(first, columns), self.value_map[:, :length, :length])
        return reorder(mapped, columns)  # counting back twice is counting forward

    def _mix(self, first: Tensor, refined: Tensor) -> Tensor:
        share = self.mix_logit.sigmoid().to(first.dtype) if self.mix == "learned" else float(self.mix)
        return torch.lerp(first, refined.to(first.dtype), share)
