"""A = softmax_M(QKᵀ/√d).

Scaled dot-product attention (Vaswani et al., NeurIPS 2017, section 3.2.1): the baseline, and the control of every
other mechanism. softmax_M is the softmax over the cells that the mask leaves visible.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from recbole_attn.attention.base import Attended, Attention, split_heads
from recbole_attn.masks import masked_softmax, select_rows


class Softmax(Attention):
    """Plain attention; see `Attention` for arguments and shapes."""

    def weigh(self, x: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        return masked_softmax(self.scores(x, rows), select_rows(mask, rows))

    def attend(self, x: Tensor, values: Tensor, mask: Tensor, rows: Tensor | None = None) -> Attended:
        dropping = self.training and self.dropout.p > 0
        if dropping and x.device.type == "cpu":
            return super().attend(x, values, mask, rows)  # the fused kernel has no dropout there
        queries = split_heads(self.query(select_rows(x, rows)), self.n_heads)
        keys = split_heads(self.key(x), self.n_heads)
        return Attended(fused(queries, keys, values, select_rows(mask, rows), self.dropout.p if dropping else 0.0))


def fused(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
    """What softmax attention reads, (B, H, R, d), without its map in memory.

    Args:
        queries: (B, H, R, d).
        keys, values: (B, H, L, d).
        visible: bool (B, 1, R, L); a row that sees nothing reads 0.
        dropout: the probability that a weight is dropped.
    """
    blind = ~visible.any(-1, keepdim=True)  # before torch 2.5 the kernel gives NaN for a row that sees nothing
    context = scaled_dot_product_attention(queries, keys, values, attn_mask=visible | blind, dropout_p=dropout)
    return context.masked_fill(blind, 0.0)
