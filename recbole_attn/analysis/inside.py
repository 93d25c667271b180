"""What a model's attention does while it scores: its maps, layer by layer.

Models of this package name their maps themselves (`Attention.maps`): whatever layer has a mechanism as its `attention`
is looked into, from its input, so that scoring stays as it is. RecBole's MultiHeadAttention gives what its
softmax gives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from recbole.model.layers import MultiHeadAttention
from torch import Tensor, nn

from recbole_attn.analysis.cases import Cases

_NOISE_SEED = 0  # of the attacked maps


class Look(NamedTuple):
    """What one batch showed.

    Attributes:
        rows: (B,) numbers of the cases.
        maps: for each layer name → (B, H, n, n), from the first map to the final one.
        read: (B,) the query position whose state predicts; keys beyond it are padding.
    """

    rows: Tensor
    maps: list[dict[str, Tensor]]
    read: Tensor


def attentive(model: nn.Module) -> list[nn.Module]:
    """The modules of a model that can be looked into, in the order of its layers."""
    return [module for module in model.modules() if _is_ours(module) or isinstance(module, MultiHeadAttention)]


def _is_ours(module: nn.Module) -> bool:
    return callable(getattr(getattr(module, "attention", None), "maps", None))


def interaction(model, items: Tensor, length: Tensor) -> dict[str, Tensor]:
    """Histories (B, n) and their lengths (B,) as a sequential model takes them, on its device."""
    device = next(model.parameters()).device
    return {model.ITEM_SEQ: items.to(device), model.ITEM_SEQ_LEN: length.to(device)}


@torch.no_grad()
def look(model, cases: Cases) -> Iterator[Look]:
    """The maps of every layer and head for all cases, a batch at a time. Noise in them is the same each time."""
    with torch.random.fork_rng(), _watched(model) as seen:
        torch.manual_seed(_NOISE_SEED)
        for rows, items, length in cases.batches():
            seen.maps.clear()
            seen.read = length - 1
            model.full_sort_predict(interaction(model, items, length))
            yield Look(rows, [{name: found.cpu() for name, found in layer.items()} for layer in seen.maps], seen.read)


class _Seen:
    """Where hooks leave what they see."""

    def __init__(self) -> None:
        self.maps: list[dict[str, Tensor]] = []
        self.read = torch.empty(0)

    def layer(self, layer: nn.Module, inputs: tuple) -> None:
        """Before one of our layers: (x, mask, rows)."""
        x, mask, *rows = inputs
        mechanism: Any = layer.attention
        self.maps.append(mechanism.maps(x, mask))
        if rows and rows[0] is not None:
            self.read = rows[0][:, 0].cpu()

    def softmax(self, softmax: nn.Module, inputs: tuple, output: Tensor) -> None:
        """After the softmax of RecBole's MultiHeadAttention."""
        self.maps.append({"weights": output})


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[_Seen]:
    seen = _Seen()
    modules: list[Any] = attentive(model)
    hooks = [
        module.register_forward_pre_hook(seen.layer)
        if _is_ours(module)
        else module.softmax.register_forward_hook(seen.softmax)
        for module in modules
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def at_read(found: Tensor, read: Tensor) -> Tensor:
    """The row that predicts, of maps (B, H, n, n) and its positions (B,) → (B, H, n)."""
    index = read[:, None, None, None].expand(-1, found.size(1), 1, found.size(-1))
    return found.gather(-2, index).squeeze(-2)
