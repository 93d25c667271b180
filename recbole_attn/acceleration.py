"""How a training step is computed: `precision`, `compile`, `fast_dropout` and `fast_gelu`. The model stays itself."""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from recbole.model.layers import FeedForward
from torch import nn

from recbole_attn.compiling import compile_training, missing
from recbole_attn.dropout import Dropout
from recbole_attn.errors import UserError
from recbole_attn.model.backbone import Backbone
from recbole_attn.model.calibrated import CalibratedModel

_SPARSE = "torch has no sparse products in bfloat16"
IN_FLOAT32 = {
    **dict.fromkeys(("DGCF", "GCMC", "LightGCN", "NCL", "NGCF", "SGL", "SpectralCF"), _SPARSE),
    "RepeatNet": "it adds numbers of two kinds in place, which torch refuses",
}


def check(config) -> None:
    """Refuse what the device or the model cannot, before any data is read.

    Raises:
        UserError: bf16 where the device has none, or beside RecBole's own mixed precision, which is bf16 on a CPU;
            float16 for losses that are routed; a model that is not compiled, or a machine that cannot.
    """
    if config["precision"] == "bf16":
        _check_bf16(config)
    # NCL's trainer takes no heed of it.
    if config["enable_amp"] and config["device"].type == "cpu" and config["model"] != "NCL":
        _require_bf16_model(config, "enable_amp = True", "enable_amp=False")
    if config["compile"]:
        _check_compile(config)
    if config["enable_amp"] and config["device"].type == "cpu" and not has_bf16(config["device"]):
        raise UserError(f"enable_amp = True: {_name(config['device'])} has no bfloat16 products; use enable_amp=False")
    if config["enable_amp"] and config["device"].type == "cuda" and issubclass(config.model_class, CalibratedModel):
        raise UserError(
            f"enable_amp = True: {config['model']} takes its gradients before RecBole's scaler of float16 acts; use "
            "enable_amp=False, with precision=bf16 where the GPU has it"
        )


def _check_bf16(config) -> None:
    if config["enable_amp"]:
        raise UserError(
            "precision = bf16 and enable_amp = True are two kinds of mixed precision; set enable_amp: False"
        )
    if not has_bf16(config["device"]):
        remedy = "precision=float32" + (" or RecBole's enable_amp=True" if config["device"].type == "cuda" else "")
        raise UserError(f"precision = bf16: {_name(config['device'])} has no bfloat16 products; use {remedy}")
    _require_bf16_model(config, "precision = bf16", "precision=float32")


def _require_bf16_model(config, asked: str, remedy: str) -> None:
    model = config["model"]
    if model in IN_FLOAT32:
        raise UserError(f"{asked}: RecBole's {model} cannot be trained in bfloat16: {IN_FLOAT32[model]}; use {remedy}")


def _check_compile(config) -> None:
    if not issubclass(config.model_class, Backbone):
        raise UserError(f"compile = True: {config['model']} is RecBole's and made for eager PyTorch; use compile=False")
    lack = missing(config["device"])
    if lack:
        raise UserError(f"compile = True: {lack}; use compile=False")


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products run on `device` without being imitated."""
    if device.type == "cpu":
        supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # torch may be built without oneDNN
        return supported is not None and bool(supported())
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this processor"


def accelerate(config, model: nn.Module) -> None:
    """Apply the settings to a model that stands on its device.

    Raises:
        UserError: see `check`; or torch cannot compile here.
    """
    check(config)
    if config["device"].type == "cpu":
        choose_dropout(model, config["fast_dropout"])
    if config["fast_gelu"]:
        fuse_gelu(model)
    if config["compile"]:
        try:
            compile_training(cast(Backbone, model).encoder)
        except ValueError as error:
            raise UserError(f"compile = True: {error}; use compile=False") from error
    if config["precision"] == "bf16":
        train_in_bf16(model, config["device"].type)


def choose_dropout(model: nn.Module, fast: bool | None) -> None:
    """Exchange torch's dropout modules for ours (`fast`), ours for torch's (not `fast`), or neither (None).

    Dropout that a model calls as a function, inside `nn.GRU` or `nn.MultiheadAttention` say, is out of reach.
    """
    old, new = (nn.Dropout, Dropout) if fast else (Dropout, nn.Dropout)
    for parent in () if fast is None else list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is old and child.p < 1:
                setattr(parent, name, new(child.p).train(child.training))


def fuse_gelu(model: nn.Module) -> None:
    """Have RecBole's feed-forward layers call PyTorch's GELU, where RecBole composes it of erf and three products."""
    for layer in model.modules():
        if isinstance(layer, FeedForward) and layer.intermediate_act_fn == layer.gelu:
            layer.intermediate_act_fn = nn.functional.gelu


def train_in_bf16(model: Any, device_type: str) -> None:
    """Compute the loss under autocast. Parameters, their gradients and the optimiser stay in float32.

    Scoring stays in float32 as well: rounded to the 8 bits of a bfloat16, the scores of many items would be equal.
    """
    loss = model.calculate_loss

    @functools.wraps(loss)
    def calculate_loss(*given, **options):  # RecBole's RecVAE says which of its halves is to learn
        with torch.autocast(device_type, dtype=torch.bfloat16):
            return loss(*given, **options)

    model.calculate_loss = calculate_loss
