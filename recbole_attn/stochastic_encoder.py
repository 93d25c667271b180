"""The layer around Wasserstein attention: a stream of means and a stream of covariances, with nothing shared.

    Z_μ = A V_μ,  Z_Σ = (A∘A) V_Σ,  V_μ linear,  V_Σ = ELU(W Σ + b) + 1
    each stream: X ← LN(X + W Z);  X ← LN(X + FFN(X)), FFN with ELU;  at last Σ ← ELU(X_Σ) + 1

Source: STOSA (WWW 2022) and its released code, which shares its norms between the streams; here each has its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_attn.attention.base import Attention, split_heads
from recbole_attn.attention.gaussian import covariance
from recbole_attn.encoder import Block, Encoded
from recbole_attn.masks import pack, select_rows


class Stream(Block):
    """The sublayers of means, or of covariances; arguments as in `Block.build`."""

    def __init__(self, *, hidden_size: int, inner_size: int, dropout: float, norm_eps: float):
        super().__init__()
        self.build(
            hidden_size=hidden_size,
            inner_size=inner_size,
            dropout=dropout,
            activation=nn.functional.elu,
            norm_eps=norm_eps,
        )


class StochasticLayer(nn.Module):
    """One layer of Gaussians: (B, L, 2D), means and then covariances, → (B, R, 2D), or (M, 2D).

    Args:
        attention: takes and gives means and covariances side by side, as `Stochastic` does.
        legacy_mean: the means stay what they were, as in the released code, where a misspelt name loses them.
        hidden_size, inner_size, dropout, norm_eps: as in `Block.build`, of each stream.
    """

    def __init__(
        self,
        attention: Attention,
        *,
        legacy_mean: bool,
        hidden_size: int,
        inner_size: int,
        dropout: float,
        norm_eps: float,
    ):
        super().__init__()
        sizes = {"hidden_size": hidden_size, "inner_size": inner_size}
        self.attention = attention
        self.mean = None if legacy_mean else Stream(**sizes, dropout=dropout, norm_eps=norm_eps)
        self.covariance = Stream(**sizes, dropout=dropout, norm_eps=norm_eps)

    def forward(self, x: Tensor, mask: Tensor, rows: Tensor | None = None, read: Tensor | None = None) -> Encoded:
        """The Gaussians of the query rows (B, R), or of those (M,) that are `read`, as in `Layer`."""
        context, _, aux = self.attention.attend(x, self._values(x), mask, rows)
        means, covariances = select_rows(x, rows).chunk(2, -1)
        size = context.size(-1) // (1 if self.mean is None else 2)
        means = pack(means, read) if self.mean is None else self.mean.finish(means, context[..., :size], read)
        covariances = covariance(self.covariance.finish(covariances, context[..., -size:], read))
        return Encoded(torch.cat([means, covariances], -1), None, [aux])

    def _values(self, x: Tensor) -> Tensor:
        """(B, L, 2D) → (B, H, L, 2d), or without the means (B, H, L, d)."""
        means, covariances = x.chunk(2, -1)
        values = [] if self.mean is None else [self.mean.value(means)]
        values.append(covariance(self.covariance.value(covariances)))
        return torch.cat([split_heads(part, self.attention.n_heads) for part in values], -1)
