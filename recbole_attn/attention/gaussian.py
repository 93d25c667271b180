"""Gaussians with diagonal covariance, and the distance between two of them.

    Σ(x)            = ELU(x) + 1 ≥ 10⁻²⁴
    W₂²(a, b)       = ‖μ_a-μ_b‖² + ‖√Σ_a-√Σ_b‖² = ‖p_a-p_b‖²,   p = [μ; √Σ]
                    = |p_a|² + |p_b|² - 2 p_a·p_b,  at least 0

The squared 2-Wasserstein distance between such Gaussians (STOSA, WWW 2022, section 3.2) is the squared Euclidean
distance between their points p. By matmul it is within 10⁻⁵·(|p_a|²+|p_b|²) of its value in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_attn.attention.base import full_precision

SMALLEST = 1e-24  # of a covariance, so that the gradient of its root stays finite


def covariance(x: Tensor) -> Tensor:
    """ELU(x) + 1 of any real x, at least `SMALLEST`. Exact for small covariances, where ELU + 1 loses every digit."""
    return (x.clamp_max(0).exp() + x.relu()).clamp_min(SMALLEST)


def points(mean: Tensor, covariances: Tensor) -> Tensor:
    """(..., K) means and covariances → [μ; √Σ], (..., 2K)."""
    return torch.cat([mean, covariances.sqrt()], -1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """W₂² of every pair: points (..., R, K) and (..., L, K) → (..., R, L)."""
    return (a.square().sum(-1, keepdim=True) - nearness(a, b)).clamp_min(0)


def nearness(a: Tensor, b: Tensor) -> Tensor:
    """-W₂² of every pair up to a number for each row, which a softmax over the row does not see.

    Computed in float32 at least: the difference of nearly equal numbers leaves nothing of half precision.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = full_precision(a), full_precision(b)
        return (2 * a) @ b.transpose(-1, -2) - b.square().sum(-1).unsqueeze(-2)
