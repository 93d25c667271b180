"""Attention mechanisms, one per file; `base` holds the contract. None of them imports RecBole."""

from recbole_attn.attention.adversarial import Adversary
from recbole_attn.attention.base import Attended, Attention
from recbole_attn.attention.calibrated import Calibrated
from recbole_attn.attention.focused import Focused
from recbole_attn.attention.refined import Refined
from recbole_attn.attention.refinement import Refinement
from recbole_attn.attention.softmax import Softmax
from recbole_attn.attention.spatial import Spatial
from recbole_attn.attention.stochastic import Stochastic

__all__ = [
    "Adversary",
    "Attended",
    "Attention",
    "Calibrated",
    "Focused",
    "Refined",
    "Refinement",
    "Softmax",
    "Spatial",
    "Stochastic",
]
