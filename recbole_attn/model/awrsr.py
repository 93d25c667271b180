"""AWRSR on a SASRec backbone: attention whose weights attend to each other (RecSys 2024; see attention/refined.py)."""

from __future__ import annotations

from recbole_attn.attention import Attention, Refined
from recbole_attn.model.backbone import chosen_layers, softmax_attention
from recbole_attn.model.sasrec import SASRecBackbone


class AWRSR(SASRecBackbone):
    """Refined attention in `attention_layers`, softmax attention in the others."""

    def build_attention(self, config, depth: int) -> Attention:
        if depth not in chosen_layers(config["attention_layers"], config["n_layers"]):
            return softmax_attention(config)
        if config["index"] == "recent" and config["training"] == "sequence":
            raise ValueError(
                "index=recent counts back from a row's last item, and training=sequence asks for the target of every "
                "item; use index=start or training=prefix"
            )
        return Refined(
            hidden_size=config["hidden_size"],
            n_heads=config["n_heads"],
            dropout=config["attn_dropout_prob"],
            max_length=self.max_seq_length,
            refinement=config["refinement"],
            scale=config["scale"],
            scale_init=config["scale_init"],
            index=config["index"],
            mix=config["mix"],
        )
