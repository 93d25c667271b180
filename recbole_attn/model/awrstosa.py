"""AWRSR on a STOSA backbone: Wasserstein attention whose weights attend to each other (RecSys 2024; a reconstruction).

See attention/refinement.py; `refinement: stochastic` is at home here.
"""

from __future__ import annotations

from recbole_attn.attention import Refinement
from recbole_attn.model.backbone import chosen_layers
from recbole_attn.model.refinement import refinement_settings
from recbole_attn.model.stosa import STOSA


class AWRSTOSA(STOSA):
    """Refined Wasserstein attention in `attention_layers`, plain one in the others. Its control is STOSA."""

    def build_refinement(self, config, depth: int) -> Refinement | None:
        if depth not in chosen_layers(config["attention_layers"], config["n_layers"]):
            return None
        return Refinement(n_heads=config["n_heads"], **refinement_settings(config, self.max_seq_length))
