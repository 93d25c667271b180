"""Focused attention: the difference of two attention maps, so that what both give to irrelevant items cancels.

    A₁ = softmax_M(Q₁K₁ᵀ/√d),  A₂ = softmax_M(Q₂K₂ᵀ/√d)
    A  = λ₁A₁ - λ₂A₂                    λ = clamp(θ, 0), two per head, starting at 1 and λ_init
    norm: output    (1-λ_init) · RMSNorm(A V)      per head, without a gain: the output projection has one
          positive  A becomes ReLU(A) over its visible sum, 0 where nothing is positive
          none      A as it is; a row sums to λ₁-λ₂, and weights may be negative

Source: FAIR (arXiv 2512.11254), whose abstract says that attention is the difference of the maps of two sets of queries
and keys. These equations are our reconstruction, since the paper's own could not be read; `norm: output` follows the
released code of the Differential Transformer (arXiv 2410.05258).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_attn.attention.adversarial import renormaliser
from recbole_attn.attention.base import Attended, Attention, one_of, split_heads
from recbole_attn.attention.softmax import fused
from recbole_attn.masks import masked_softmax, select_rows

NORMS = ("output", "positive", "none")
_EPS = 1e-5  # as in the released Differential Transformer


class Focused(Attention):
    """Focused attention; see `Attention` for shapes. Weights may be negative, and their rows need not sum to 1.

    Args:
        norm: one of `NORMS`.
        lambda_init: λ_init, where λ₂ starts; λ₁ starts at 1.

    Raises:
        ValueError: another norm, or λ_init outside [0, 1).
    """

    def __init__(self, *, hidden_size: int, n_heads: int, dropout: float, norm: str, lambda_init: float):
        super().__init__(hidden_size=hidden_size, n_heads=n_heads, dropout=dropout)
        if not 0 <= lambda_init < 1:
            raise ValueError(f"lambda_init must lie in [0, 1), not {lambda_init}")
        self.norm, self.lambda_init = one_of("norm", norm, NORMS), lambda_init
        self.other_query = nn.Linear(hidden_size, hidden_size)
        self.other_key = nn.Linear(hidden_size, hidden_size)
        self.theta = nn.Parameter(torch.tensor([1.0, lambda_init])[:, None].repeat(1, n_heads))

    def attend(self, x: Tensor, values: Tensor, mask: Tensor, rows: Tensor | None = None) -> Attended:
        if self.norm == "positive" or (self.training and self.dropout.p > 0):
            return super().attend(x, values, mask, rows)  # what acts on the difference of the maps needs the maps
        visible, chosen = select_rows(mask, rows), select_rows(x, rows)
        first, other = (
            fused(split_heads(query(chosen), self.n_heads), split_heads(key(x), self.n_heads), values, visible)
            for query, key in ((self.query, self.key), (self.other_query, self.other_key))
        )
        kept, taken = self._shares()
        return Attended(self._normed(kept * first - taken * other))

    def weigh(self, x: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        *_, final = self._stages(x, mask, rows).values()
        return final

    def maps(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Both maps, their difference and, where that is not final yet, what becomes of it."""
        return self._stages(x, mask, None)

    def _stages(self, x: Tensor, mask: Tensor, rows: Tensor | None) -> dict[str, Tensor]:
        visible = select_rows(mask, rows)
        kept, taken = self._shares()
        first = masked_softmax(self.scores(x, rows), visible)
        other = masked_softmax(self.scores(x, rows, self.other_query, self.other_key), visible)
        stages = {"A1": first, "A2": other, "difference": kept * first - taken * other}
        if self.norm == "positive":
            stages["positive"] = renormaliser("divide")(stages["difference"].relu(), visible)
        return stages

    def _shares(self) -> Tensor:
        """λ₁ and λ₂, (2, H, 1, 1)."""
        return self.theta.clamp_min(0)[..., None, None]

    def read(self, weights: Tensor, values: Tensor) -> Tensor:
        return self._normed(super().read(weights, values))

    def _normed(self, context: Tensor) -> Tensor:
        if self.norm != "output":
            return context
        return context * ((1 - self.lambda_init) * (context.square().mean(-1, keepdim=True) + _EPS).rsqrt())
