"""Losses on disjoint parameters, trained by one backward pass.

    L_cal = loss(calibrated)                              moves every parameter but the attackers'
    L_adv = -loss(attacked) + w · mean(penalties)         moves the attackers' parameters only

Source: AC-TSR (CIKM 2023), whose trainer runs two backward passes and switches parameters on and off between them.
Here each loss becomes a number that carries its own parameters' gradient and no other, so that any optimisation step
that adds the two up and calls `backward` does the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Losses(NamedTuple):
    """Two scalars to be summed for training, and to be logged apart."""

    calibrated: Tensor
    adversarial: Tensor


@contextlib.contextmanager
def held(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """What is computed in this context takes `parameters` for constants, and spends nothing on their gradients."""
    moved = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in moved:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moved:
            parameter.requires_grad_(True)


def adversarial_losses(
    calibrated: Tensor,
    attacked: Tensor,
    penalties: Sequence[Tensor],
    weight: float,
    attackers: Collection[nn.Parameter],
    others: Collection[nn.Parameter],
) -> Losses:
    """L_cal for `others` and L_adv for `attackers`. Both backward passes run here; `backward` only hands out.

    Args:
        calibrated, attacked: the model's loss on its states, and on their attacked shadows.
        penalties: how large the attack is, one scalar a layer.
        weight: w.
        attackers, others: disjoint sets of parameters.
    """
    adversarial = weight * torch.stack(list(penalties)).mean() - attacked
    kept = restrict(adversarial, attackers, retain_graph=True)
    return Losses(restrict(calibrated, others, retain_graph=False), kept)


def restrict(loss: Tensor, parameters: Collection[nn.Parameter], *, retain_graph: bool) -> Tensor:
    """The value of `loss`, with a gradient for `parameters` alone.

    Where gradients are not recorded, just the value.
    """
    moved = [parameter for parameter in parameters if parameter.requires_grad]
    if not (moved and loss.requires_grad):
        return loss.detach()
    with torch.autocast(loss.device.type, enabled=False):
        found = torch.autograd.grad(loss, moved, retain_graph=retain_graph, allow_unused=True)
    pairs = [(parameter, gradient) for parameter, gradient in zip(moved, found) if gradient is not None]
    return _Carrier.apply(loss.detach(), [gradient for _, gradient in pairs], *(parameter for parameter, _ in pairs))


class _Carrier(torch.autograd.Function):
    """A number that carries gradients which are known already."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx, scale: Tensor):
        return None, None, *(gradient * scale for gradient in ctx.gradients)
