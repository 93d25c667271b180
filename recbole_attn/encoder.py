"""The backbone around a mechanism: values, output projection, residuals, norms and feed-forward.

Post-norm Transformer blocks as RecBole's SASRec has them. A layer is handed its mechanism and never asks which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recbole_attn.attention.base import Attention, join_heads, one_of, split_heads
from recbole_attn.dropout import Dropout
from recbole_attn.masks import pack, select_rows

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "relu": torch.relu,
    "swish": nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Encoded(NamedTuple):
    """What a layer, or a stack of them, makes of its input.

    Attributes:
        hidden: (B, R, D), or (M, D) where only M of the B·R rows are read.
        shadow: as `hidden`, what a mechanism's second context came to; None where no mechanism gave one.
        aux: what the mechanism handed over, in a list for each layer.
    """

    hidden: Tensor
    shadow: Tensor | None
    aux: list[Any]


class Block(nn.Module):
    """Values, and all that follows attention.

    A subclass calls `build` in its constructor, when its mechanism is in place: initial weights are drawn in the order
    in which the parts were made.
    """

    def build(
        self,
        *,
        hidden_size: int,
        inner_size: int,
        dropout: float,
        activation: Callable[[Tensor], Tensor],
        norm_eps: float,
    ) -> None:
        """Make the parts.

        Args:
            hidden_size: D.
            inner_size: width of the feed-forward layer.
            dropout: probability that an element of a sublayer's output is dropped.
            activation: of the feed-forward layer.
            norm_eps: added to the variance in layer norms.

        Raises:
            ValueError: an inner size below 1, or a probability outside [0, 1).
        """
        if inner_size < 1:
            raise ValueError(f"inner_size must be at least 1, not {inner_size}")
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.widen = nn.Linear(hidden_size, inner_size)
        self.narrow = nn.Linear(inner_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.dropout = Dropout(dropout)
        self.activation = activation

    def finish(self, x: Tensor, context: Tensor, read: Tensor | None = None) -> Tensor:
        """All that follows attention: x (B, R, D), context (B, H, R, d) → (B, R, D), or (M, D) of the rows `read`."""
        x = self.attention_norm(pack(x, read) + self.dropout(self.output(pack(join_heads(context), read))))
        return self.feed_forward_norm(x + self.dropout(self.narrow(self.activation(self.widen(x)))))


class Layer(Block):
    """One block around a mechanism: hidden states (B, L, D) → (B, R, D), or (M, D).

    Args:
        attention: the mechanism.
        activation: one of `ACTIVATIONS`.
        hidden_size, inner_size, dropout, norm_eps: as in `Block.build`.

    Raises:
        ValueError: an unknown activation, or what `Block.build` refuses.
    """

    def __init__(
        self,
        attention: Attention,
        *,
        hidden_size: int,
        inner_size: int,
        dropout: float,
        activation: str,
        norm_eps: float,
    ):
        super().__init__()
        self.attention = attention
        self.build(
            hidden_size=hidden_size,
            inner_size=inner_size,
            dropout=dropout,
            activation=ACTIVATIONS[one_of("hidden_act", activation, ACTIVATIONS)],
            norm_eps=norm_eps,
        )

    def forward(self, x: Tensor, mask: Tensor, rows: Tensor | None = None, read: Tensor | None = None) -> Encoded:
        """Hidden states of the query rows (B, R), None for all; or of those that are `read` (M,), of B·R in a line."""
        values = split_heads(self.value(x), self.attention.n_heads)
        context, shadow, aux = self.attention.attend(x, values, mask, rows)
        chosen = select_rows(x, rows)
        beside = None if shadow is None else self.finish(chosen, shadow, read)
        return Encoded(self.finish(chosen, context, read), beside, [aux])


class Encoder(nn.Module):
    """A stack of layers, each called as `Layer` is; only the last one is spared the rows that nobody reads.

    A shadow that a layer gives goes through all later layers, beside the hidden states and by the same weights; where
    a later layer gives a shadow of its own, the shadow of the shadow goes on.

    Raises:
        ValueError: no layers.
    """

    def __init__(self, layers: Iterable[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        if not self.layers:
            raise ValueError("n_layers must be at least 1, not 0")

    def forward(self, x: Tensor, mask: Tensor, rows: Tensor | None = None, read: Tensor | None = None) -> Encoded:
        """(B, L, D) → hidden states of `rows`, or of all positions; or of those that are `read`. As in `Layer`."""
        shadow: Tensor | None = None
        handed_over: list[Any] = []
        for layer in self.layers:
            spared = (rows, read) if layer is self.layers[-1] else (None, None)
            beside: Encoded | None = None if shadow is None else layer(shadow, mask, *spared)
            x, shadow, aux = layer(x, mask, *spared)
            if beside is not None:
                shadow = beside.hidden if beside.shadow is None else beside.shadow
            handed_over += aux
        return Encoded(x, shadow, handed_over)
