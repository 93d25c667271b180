"""AWRSR on a SASRec backbone: attention whose weights attend to each other (RecSys 2024; see attention/refined.py)."""

from __future__ import annotations

from recbole_attn.attention import Attention, Refined
from recbole_attn.model.sasrec import SASRecBackbone, softmax_attention


class AWRSR(SASRecBackbone):
    """Refined attention in `attention_layers`, softmax attention in the others."""

    def build_attention(self, config, depth: int) -> Attention:
        if depth not in chosen_layers(config["attention_layers"], config["n_layers"]):
            return softmax_attention(config)
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


def chosen_layers(choice, n_layers: int) -> set[int]:
    """The layers, counted from 0, that `attention_layers: all | [0, 2]` names.

    Raises:
        ValueError: not "all" and not a list of existing layers.
    """
    if choice == "all":
        return set(range(n_layers))
    if isinstance(choice, (list, tuple)) and all(depth in range(n_layers) for depth in choice):
        return set(choice)
    raise ValueError(f"attention_layers must be all or a list of layers from 0 to {n_layers - 1}, not {choice!r}")
