"""SASRec with focused attention: FAIR's mechanism apart from its generative part (see attention/focused.py)."""

from __future__ import annotations

from recbole_attn.attention import Attention, Focused
from recbole_attn.model.backbone import chosen_layers, softmax_attention
from recbole_attn.model.sasrec import SASRecBackbone


def focused_attention(config, depth: int) -> Attention:
    """Focused attention in `attention_layers`, softmax attention in the others."""
    if depth not in chosen_layers(config["attention_layers"], config["n_layers"]):
        return softmax_attention(config)
    return Focused(
        hidden_size=config["hidden_size"],
        n_heads=config["n_heads"],
        dropout=config["attn_dropout_prob"],
        norm=config["norm"],
        lambda_init=config["lambda_init"],
    )


class FocusedSASRec(SASRecBackbone):
    """Focused attention on SASRec; its control is AttnSASRec."""

    def build_attention(self, config, depth: int) -> Attention:
        return focused_attention(config, depth)
