"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class Dropout(nn.Module):
    """`nn.Dropout` with 16 random bits an element on the CPU, where PyTorch's generator dominates a training step.

    The bits come from NumPy's SFC64, seeded for each call by PyTorch's global generator, so that `torch.manual_seed`
    and a restored random state reproduce them. The probability is rounded to a multiple of 2⁻¹⁶ and the scale is
    that of the rounded one, so the expectation is exact. Other devices use `torch.nn.functional.dropout`.

    Raises:
        ValueError: the probability `p` is outside [0, 1).
    """

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"a dropout probability must lie in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        return x * self._mask(x)

    def _mask(self, x: Tensor) -> Tensor:
        """0 or 1/(1 - p), in the shape and type of x."""
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        seed = int(torch.randint(torch.iinfo(torch.int64).max, ()))
        words = np.random.SFC64(seed).random_raw(-(-x.numel() // 4))
        bits = torch.from_numpy(words.view(np.int16))[: x.numel()].view(x.shape)
        keep = bits >= dropped - _LEVELS // 2
        return keep.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"
