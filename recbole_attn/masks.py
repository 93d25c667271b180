"""Who may read whom: bool masks (True = may read) and the softmax that respects them.

Shapes: B batch, H heads, L length, R selected query rows. Item 0 is padding and stands on the right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_attn.compiling import is_compiling


def causal_mask(item_seq: Tensor) -> Tensor:
    """(B, L) item ids → (B, 1, L, L): query i may read key j where j ≤ i and item j is not padding."""
    length = item_seq.size(1)
    past = torch.ones(length, length, dtype=torch.bool, device=item_seq.device).tril()
    return past & bidirectional_mask(item_seq)


def bidirectional_mask(item_seq: Tensor) -> Tensor:
    """(B, L) item ids → (B, 1, L, L): every query may read every key that is not padding."""
    visible = (item_seq != 0)[:, None, None, :]
    return visible.expand(-1, -1, item_seq.size(1), -1)


def lengths_of(mask: Tensor) -> Tensor:
    """(B, 1, L, L) → (B,): the number of items, since an item that is not padding may read itself."""
    return mask[:, 0].diagonal(dim1=-2, dim2=-1).sum(-1)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the visible cells of the last dimension, exactly 0 elsewhere, also in a row that sees nothing.

    Args:
        scores: (B, H, R, L).
        mask: bool, broadcastable to `scores`.
    """
    # Not -inf: a row that sees nothing would become NaN, and so its gradient. Half, so that no score makes it -inf.
    lowest = torch.finfo(scores.dtype).min / 2
    hidden = torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device).masked_fill_(~mask, lowest)
    weights = (scores + hidden).softmax(-1)  # adding costs nothing in the backward pass, filling would
    if not weights.is_cuda and not is_compiling() and bool(mask.any(-1).all()):
        return weights  # every row sees something, so what is hidden is 0 already; asking a GPU would stall it
    return weights.masked_fill(~mask, 0.0)


def pack(x: Tensor, read: Tensor | None) -> Tensor:
    """(B, R, D) → (M, D), the rows `read` (M,) of all B·R in a line; None leaves x as it is."""
    return x if read is None else x.flatten(0, 1).index_select(0, read)


def read_first(rows: Tensor) -> Tensor:
    """(B, R) positions → bool (B, R): not read in an earlier column of the same row."""
    earlier = (rows[:, :, None] == rows[:, None, :]).tril(-1)
    return ~earlier.any(-1)


def select_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of the second to last dimension, another choice for each element of the batch.

    Args:
        x: (B, L, D) or (B, H, L, K).
        rows: (B, R) positions, or None for all of them.

    Returns:
        (B, R, D) or (B, H, R, K).
    """
    if rows is None:
        return x
    index = rows[..., None] if x.dim() == 3 else rows[:, None, :, None]
    return x.gather(-2, index.expand(*x.shape[:-2], rows.size(-1), x.size(-1)))
