"""Attention mechanisms, one per file; `base` holds the contract. None of them imports RecBole."""

from recbole_attn.attention.adversarial import Adversary
from recbole_attn.attention.base import Attended, Attention
from recbole_attn.attention.calibrated import Calibrated
from recbole_attn.attention.refined import Refined
from recbole_attn.attention.softmax import Softmax
from recbole_attn.attention.spatial import Spatial

__all__ = ["Adversary", "Attended", "Attention", "Calibrated", "Refined", "Softmax", "Spatial"]
