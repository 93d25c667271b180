"""A = softmax_M(QKᵀ/√d), refined: what becomes of A stands in refinement.py.

Source: AWRSR (RecSys 2024, arXiv 2410.21048), reconstructed; see there.
"""

from __future__ import annotations

from torch import Tensor

from recbole_attn.attention.base import Attention, one_of
from recbole_attn.attention.refinement import CORRELATIONS, Refinement
from recbole_attn.masks import masked_softmax


class Refined(Attention):
    """Refined attention; see `Attention` for shapes.

    Args:
        refinement: one of `CORRELATIONS`.
        max_length, scale, scale_init, index, mix: as in `Refinement`.

    Raises:
        ValueError: a value outside what is said there.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        n_heads: int,
        dropout: float,
        max_length: int,
        refinement: str,
        scale: str,
        scale_init: float,
        index: str,
        mix: float | str,
    ):
        super().__init__(hidden_size=hidden_size, n_heads=n_heads, dropout=dropout)
        self.refinement = Refinement(
            n_heads=n_heads,
            max_length=max_length,
            refinement=one_of("refinement", refinement, CORRELATIONS),
            scale=scale,
            scale_init=scale_init,
            index=index,
            mix=mix,
        )

    def weigh(self, x: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        return self.refinement(masked_softmax(self.scores(x), mask), mask, rows)

    def maps(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return self.refinement.stages(masked_softmax(self.scores(x), mask), mask)
