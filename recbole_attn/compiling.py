"""`torch.compile` for the training pass of a module."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

import torch
from torch import nn


def is_compiling() -> bool:
    """Whether `torch.compile` reads this call. It cannot read NumPy and does not like questions about values."""
    return can_hold_operators() and torch.compiler.is_compiling()


def can_hold_operators() -> bool:
    """Whether this torch can compile around operators of our own: 2.4 or newer."""
    return hasattr(torch.library, "custom_op")


def compile_training(module: nn.Module, backend: str = "inductor") -> None:
    """Compile what `module` does in training mode, for batches of any length; names of its parameters stay.

    In evaluation mode the module runs as it did before. Numbers agree to rounding, but for dropout's, of which
    `inductor` draws others, reproducible from the seed too.

    Raises:
        ValueError: this machine cannot compile; the text says what is missing.
    """
    eager = module.forward
    try:
        compiled = torch.compile(eager, backend=backend, dynamic=True)
    except RuntimeError as error:  # Python or system that torch does not compile on
        raise ValueError(f"torch says: {error}") from error
    module.forward = lambda *inputs: (compiled if module.training else eager)(*inputs)
    if hasattr(torch._functorch.config, "donated_buffer"):  # from torch 2.6 on
        torch._functorch.config.donated_buffer = False  # routed losses go backward through one graph twice


def missing(device: torch.device) -> str | None:
    """What this machine lacks to compile for `device`; None where nothing is known to."""
    if not can_hold_operators():
        return f"torch {torch.__version__} is older than 2.4"
    if device.type == "cpu":
        compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
        return None if shutil.which(compiler) else f"there is no C++ compiler ({compiler})"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0):
        return f"{torch.cuda.get_device_name(device)} is older than Triton supports"
    return None if importlib.util.find_spec("triton") else "there is no Triton"
