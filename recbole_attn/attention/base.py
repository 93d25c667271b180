"""The contract between a mechanism (who reads whom) and a layer (everything else).

A mechanism owns its query and key projections. Values, output projection, residual, norm and feed-forward belong to
the layer and are the same for all mechanisms.

Shapes: B batch, H heads, L length, R query rows (L when `rows` is None), D hidden size, d = D/H.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recbole_attn.dropout import Dropout
from recbole_attn.masks import select_rows


class Attended(NamedTuple):
    """What a layer gets from its mechanism.

    Attributes:
        context: what the query rows read, (B, H, R, d).
        shadow: a second such context, which a layer treats as the first. Whatever comes of it reaches a loss only.
        aux: whatever else the mechanism's loss needs.
    """

    context: Tensor
    shadow: Tensor | None = None
    aux: Any = None


class Attention(nn.Module):
    """Projections, head split and the default `attend`; a mechanism defines `weigh`.

    Args:
        hidden_size: D.
        n_heads: H.
        dropout: the probability that a final weight is dropped while training.

    Raises:
        ValueError: D is not a multiple of H, or the probability is outside [0, 1).
    """

    def __init__(self, *, hidden_size: int, n_heads: int, dropout: float):
        super().__init__()
        if n_heads < 1 or hidden_size % n_heads:
            raise ValueError(f"hidden_size must be a multiple of n_heads, not {hidden_size} with n_heads={n_heads}")
        if not 0 <= dropout < 1:
            raise ValueError(f"attn_dropout_prob must lie in [0, 1), not {dropout}")
        self.n_heads = n_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.dropout = Dropout(dropout)

    def weigh(self, x: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        """The final attention weights, before dropout.

        Args:
            x: (B, L, D).
            mask: bool (B, 1, L, L), True where query i may read key j.
            rows: (B, R) query positions that will be read; None = all of them.

        Returns:
            (B, H, R, L), exactly 0 where the mask is False.
        """
        raise NotImplementedError

    def attend(self, x: Tensor, values: Tensor, mask: Tensor, rows: Tensor | None = None) -> Attended:
        """What the query rows read: values (B, H, L, d) → context (B, H, R, d)."""
        return Attended(self.read(self.dropout(self.weigh(x, mask, rows)), values))

    def read(self, weights: Tensor, values: Tensor) -> Tensor:
        """What weights (B, H, R, L) take of values (B, H, L, d): by default their product, (B, H, R, d)."""
        return weights @ values

    def maps(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What there is to look at inside, from the first map to the final one: name → (B, H, L, L).

        For analysis alone, in evaluation mode: nothing that trains or scores calls it. The last map is that of `weigh`.
        """
        return {"weights": self.weigh(x, mask)}

    def scores(
        self, x: Tensor, rows: Tensor | None = None, query: nn.Linear | None = None, key: nn.Linear | None = None
    ) -> Tensor:
        """Scaled dot products q_i·k_j/√d, (B, H, R, L), of the mechanism's projections or of those given."""
        keys = split_heads((key or self.key)(x), self.n_heads)
        queries = split_heads((query or self.query)(select_rows(x, rows)), self.n_heads) / math.sqrt(keys.size(-1))
        return queries @ keys.transpose(-1, -2)


def one_of(name: str, value: str, allowed: Collection[str]) -> str:
    """`value`, if it is one of `allowed`.

    Raises:
        ValueError: it is not; the text names the setting.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, L, D) → (B, H, L, d)."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, L, d) → (B, L, D)."""
    return x.transpose(1, 2).flatten(-2)


def full_precision(scores: Tensor) -> Tensor:
    """Half precision, as autocast makes it, widened to float32; float32 and float64 as they are."""
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
