"""AWRSR on a SASRec backbone: attention whose weights attend to each other (RecSys 2024, reconstructed)."""

from __future__ import annotations

from recbole_attn.attention import Attention, Refined
from recbole_attn.model.backbone import chosen_layers, softmax_attention
from recbole_attn.model.refinement import refinement_settings
from recbole_attn.model.sasrec import SASRecBackbone


class AWRSR(SASRecBackbone):
    """Refined attention in `attention_layers`, softmax attention in the others. Its control is AttnSASRec."""

    def build_attention(self, config, depth: int) -> Attention:
        if depth not in chosen_layers(config["attention_layers"], config["n_layers"]):
            return softmax_attention(config)
        if config["refinement"] == "stochastic":
            raise ValueError("refinement=stochastic needs the covariances of STOSA; use the model AWRSTOSA")
        return Refined(
            hidden_size=config["hidden_size"],
            n_heads=config["n_heads"],
            dropout=config["attn_dropout_prob"],
            **refinement_settings(config, self.max_seq_length),
        )
