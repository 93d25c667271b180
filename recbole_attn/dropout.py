"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from recbole_attn.compiling import can_hold_operators, is_compiling

_LEVELS = 1 << 16


def random_bits(seed: Tensor, shape: Sequence[int]) -> Tensor:
    """16 random bits an element, as int16: a function of the seed, an int64 scalar."""
    count = math.prod(shape)
    words = np.random.SFC64(int(seed)).random_raw(-(-count // 4))
    return torch.from_numpy(words.view(np.int16))[:count].view(shape)


if can_hold_operators():
    _opaque_bits = torch.library.custom_op(
        "recbole_attn::random_bits", random_bits, mutates_args=(), schema="(Tensor seed, SymInt[] shape) -> Tensor"
    )
    _opaque_bits.register_fake(lambda seed, shape: torch.empty(shape, dtype=torch.int16))


class Dropout(nn.Module):
    """`nn.Dropout` with 16 random bits an element on the CPU, where PyTorch's generator dominates a training step.

    The bits come from NumPy's SFC64, seeded for each call by PyTorch's global generator, so that `torch.manual_seed`
    and a restored random state reproduce them. The probability is rounded to a multiple of 2⁻¹⁶ and the scale is
    that of the rounded one, so the expectation is exact. Other devices use `torch.nn.functional.dropout`.

    `torch.compile` can take it in where torch is 2.4 or newer; `inductor` then draws other seeds than eager PyTorch.

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
        seed = torch.randint(torch.iinfo(torch.int64).max, ())
        bits = _opaque_bits(seed, x.shape) if is_compiling() else random_bits(seed, x.shape)
        keep = bits >= dropped - _LEVELS // 2
        return keep.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"
