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
from torch.autograd.function import once_differentiable

from recbole_attn.attention.base import full_precision

SMALLEST = 1e-24  # of a covariance, so that the gradient of its root stays finite


def covariance(x: Tensor) -> Tensor:
    """ELU(x) + 1 of any real x, at least `SMALLEST`. Exact for small covariances, where ELU + 1 loses every digit."""
    return (x.clamp_max(0).exp() + x.relu()).clamp_min(SMALLEST)


def points(mean: Tensor, covariances: Tensor) -> Tensor:
    """(..., K) means and covariances → [μ; √Σ], (..., 2K)."""
    return torch.cat([mean, covariances.sqrt()], -1)


def shifted_points(both: Tensor) -> Tensor:
    """[μ; x] (..., 2K) → [μ; √Σ(x) - 1], as far from each other as `points`, in less memory.

    The shift keeps the digits that products of roots near 1 would lose, for distances do not see it.
    """
    return _ShiftedPoints.apply(both)


class _ShiftedPoints(torch.autograd.Function):
    """s = √Σ(x) is √eˣ below 1 and √(x+1) above, so that ds/dx = min(s, 1/s)/2: the result tells its own slope."""

    @staticmethod
    def forward(ctx, both):
        found = both.clone()
        x = found.chunk(2, -1)[1]
        above = x.relu().add_(1).sqrt_().sub_(1)
        x.clamp_max_(0).div_(2).expm1_().add_(above)
        ctx.save_for_backward(found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (found,) = ctx.saved_tensors
        root, gradient = found.chunk(2, -1)[1] + 1, gradient.clone()
        gradient.chunk(2, -1)[1].mul_(torch.minimum(root, root.reciprocal()).div_(2))
        return gradient


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """W₂² of every pair: points (..., R, K) and (..., L, K) → (..., R, L)."""
    return (a.square().sum(-1, keepdim=True) - nearness(a, b)).clamp_min(0)


def nearness(a: Tensor, b: Tensor) -> Tensor:
    """-W₂² of every pair up to a number for each row, which a softmax over the row does not see.

    Computed in float32 at least: the difference of nearly equal numbers leaves nothing of half precision.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = full_precision(a), full_precision(b)
        return torch.add(-b.square().sum(-1).unsqueeze(-2), a @ b.transpose(-1, -2), alpha=2)


def nearness_within(a: Tensor) -> Tensor:
    """`nearness(a, a)`, (..., L, K) → (..., L, L), with one matrix product for the gradient where that has two."""
    with torch.autocast(a.device.type, enabled=False):
        return _NearnessWithin.apply(full_precision(a))


class _NearnessWithin(torch.autograd.Function):
    """N = 2 a aᵀ - 1 diag(a aᵀ)ᵀ, so that G arriving there is 2 (G + Gᵀ - diag(1ᵀ G)) a here."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        products = a @ a.transpose(-1, -2)
        squares = products.diagonal(dim1=-2, dim2=-1).unsqueeze(-2).clone()
        return products.mul_(2).sub_(squares)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (a,) = ctx.saved_tensors
        both = gradient + gradient.transpose(-1, -2)
        both.diagonal(dim1=-2, dim2=-1).sub_(gradient.sum(-2))
        with torch.autocast(a.device.type, enabled=False):
            return (both @ a).mul_(2)
