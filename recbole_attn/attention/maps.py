"""Attention maps as matrices: their columns in another order, and products with one matrix a head."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_attn.masks import lengths_of


def recent_first(mask: Tensor) -> Tensor:
    """(B, 1, L, L) → (B, L): the position that stands r places before the last item, padding after all items."""
    length = mask.size(-1)
    back = torch.arange(length, device=mask.device)
    return (lengths_of(mask)[:, None] - 1 - back) % length


def reorder(maps: Tensor, columns: Tensor | None) -> Tensor:
    """(B, H, R, L) with its columns in the order of (B, L); None leaves them."""
    if columns is None:
        return maps
    return maps.gather(-1, columns[:, None, None, :].expand_as(maps))


def per_head(maps: Tensor, matrix: Tensor) -> Tensor:
    """(B, H, R, L) times (H, L, K) as one product a head; a plain matmul would make B·H small ones."""
    rows_of_heads = maps.transpose(0, 1).flatten(1, 2)
    return (rows_of_heads @ matrix).unflatten(1, (maps.size(0), -1)).transpose(0, 1)
