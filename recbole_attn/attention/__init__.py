"""Attention mechanisms, one per file; `base` holds the contract. None of them imports RecBole."""

from recbole_attn.attention.base import Attended, Attention
from recbole_attn.attention.refined import Refined
from recbole_attn.attention.softmax import Softmax

__all__ = ["Attended", "Attention", "Refined", "Softmax"]
