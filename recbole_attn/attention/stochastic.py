"""Items as Gaussians, which read each other the more the nearer they are.

    Q_μ, K_μ linear in μ;  Q_Σ, K_Σ = ELU(W Σ + b) + 1           per head
    A   = softmax_M(-W₂²(Q_i, K_j)/√d)                           W₂²: see gaussian.py
    Z_μ = A V_μ,   Z_Σ = (A∘A) V_Σ                               what a weighted sum of independent Gaussians is

A may be refined before it is dropped and read: see refinement.py.

Source: STOSA (WWW 2022, section 3) and its released code; its refinement is AWRSR's (RecSys 2024), reconstructed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recbole_attn.attention.base import Attended, Attention, full_precision, split_heads
from recbole_attn.attention.gaussian import covariance, nearness, points
from recbole_attn.attention.refinement import Refinement
from recbole_attn.masks import masked_softmax, select_rows


class Stochastic(Attention):
    """Wasserstein attention. Other than in `Attention`, x is (B, L, 2D) and values and context are (B, H, ·, 2d).

    The first halves are means and the second ones covariances. Values and context may lack the means.

    Args:
        refinement: makes the final weights of A; None leaves it as it is.
    """

    def __init__(self, *, hidden_size: int, n_heads: int, dropout: float, refinement: Refinement | None):
        super().__init__(hidden_size=hidden_size, n_heads=n_heads, dropout=dropout)
        self.query_covariance = nn.Linear(hidden_size, hidden_size)
        self.key_covariance = nn.Linear(hidden_size, hidden_size)
        self.head_size, self.refinement = hidden_size // n_heads, refinement

    def weigh(self, x: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        if self.refinement is None:
            return self._first(x, mask, rows)
        return self.refinement(self._first(x, mask, None), mask, rows)  # it compares all rows of A

    def maps(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        first = self._first(x, mask, None)
        return {"weights": first} if self.refinement is None else self.refinement.stages(first, mask)

    def _first(self, x: Tensor, mask: Tensor, rows: Tensor | None) -> Tensor:
        """A, in the query rows."""
        queries = self._points(select_rows(x, rows), self.query, self.query_covariance)
        keys = self._points(x, self.key, self.key_covariance)
        return masked_softmax(nearness(queries, keys), select_rows(mask, rows))

    def _points(self, x: Tensor, of_mean: nn.Linear, of_covariance: nn.Linear) -> Tensor:
        """(B, L, 2D) → (B, H, L, 2d), so that squared distances are W₂²/√d."""
        mean, spread = x.chunk(2, -1)
        gaussians = of_mean(mean), covariance(full_precision(of_covariance(spread)))
        return points(*(split_heads(part, self.n_heads) for part in gaussians)) / math.sqrt(math.sqrt(self.head_size))

    def attend(self, x: Tensor, values: Tensor, mask: Tensor, rows: Tensor | None = None) -> Attended:
        weights = self.dropout(self.weigh(x, mask, rows))
        means, covariances = values[..., : -self.head_size], values[..., -self.head_size :]
        return Attended(torch.cat([weights @ means, weights.square() @ covariances], -1))
