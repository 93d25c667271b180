"""Spatial calibrator: attention scores know the order and the distance of two items.

    p_ij   = σ(w_o·[q_i;k_j] + b_o)                               o_ij = 1 if j > i else 0
    e^o_ij = o_ij log p_ij + (1-o_ij) log(1-p_ij)                 how well the pair tells its order
    e^d_ij = -(log(1+|i-j|) - w_d·[q_i;k_j] - b_d)² θ²/2          how well it tells its distance
    scores = (q_i·k_j + e^o_ij + e^d_ij)/√d

Source: AC-TSR (CIKM 2023, arXiv 2308.09419) and its released code. w_o and w_d are shared by the heads. As
w·[q;k] = w₁·q + w₂·k, no pair of vectors is ever laid side by side. Under a causal mask every visible o_ij is 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from recbole_attn.attention.base import full_precision


class Spatial(nn.Module):
    """Adds e^o and e^d to attention scores.

    Args:
        head_size: d.
        use_order: add e^o.
        use_distance: add e^d.
    """

    def __init__(self, *, head_size: int, use_order: bool, use_distance: bool):
        super().__init__()
        self.order = nn.Linear(2 * head_size, 1) if use_order else None
        self.distance = nn.Linear(2 * head_size, 1) if use_distance else None
        self.sharpness = nn.Parameter(torch.ones(())) if use_distance else None  # θ; the released code draws N(0, 1)

    def forward(self, queries: Tensor, keys: Tensor, rows: Tensor | None = None) -> Tensor:
        """Calibrated scores (B, H, R, L).

        Args:
            queries: (B, H, R, d), those of `rows` alone.
            keys: (B, H, L, d).
            rows: (B, R) the positions of the queries; None where they are all of them.
        """
        scale = 1 / math.sqrt(keys.size(-1))
        scores = full_precision((queries * scale) @ keys.transpose(-1, -2))
        places = torch.arange(keys.size(-2), device=keys.device)
        ahead = places - (places if rows is None else rows[:, None, :])[..., None]  # j - i, (L, L) or (B, 1, R, L)
        if self.order is not None:
            of_query, of_key = _split(self.order, queries, keys)
            sign = torch.where(ahead > 0, 1, -1).to(scores.dtype)
            scores.add_(logsigmoid((of_query + of_key).mul_(sign)), alpha=scale)
        if self.distance is not None and self.sharpness is not None:
            of_query, of_key = _split(self.distance, queries, keys)
            theta = self.sharpness * math.sqrt(scale / 2)
            surprise = (theta * ahead.abs().to(scores.dtype).log1p() + of_key * -theta).add_(of_query * -theta)
            scores.sub_(surprise.square())
        return scores


def _split(affine: nn.Linear, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """w·[q_i;k_j] + b as two terms: of the query (B, H, R, 1), and of the key (B, H, 1, L)."""
    for_query, for_key = affine.weight.chunk(2, dim=-1)
    of_query = _project(queries, for_query, affine.bias)
    return of_query, _project(keys, for_key, None).transpose(-1, -2)


def _project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, H, L, d) → (B, H, L, 1), by way of (B, L, H, d), which is how heads lie in memory."""
    projected = nn.functional.linear(x.transpose(1, 2), weight, bias)
    return full_precision(projected.transpose(1, 2).contiguous())
