"""Calibrated attention: spatially calibrated scores, and a mixture of their map with its adversarial calibration.

    A     = softmax_M(scores)                            scores: see spatial.py
    P, A_att, A_cal                                      see adversarial.py
    gate      : A_com = renorm_M(g∘A + (1-g)∘A_cal)      g = σ(W_g Q + b_g), columns absolute, shared by the heads
    fixed     : A_com = renorm_M(A + A_cal/2)
    annealing : A_com = renorm_M(r·A + (1-r)·A_cal)      r = exp(-step/10⁵)

A_com is what the layer reads; A_att is read beside it while training, as the layer's shadow, and only a loss sees it.

Source: AC-TSR (CIKM 2023, arXiv 2308.09419) and its released code; what is ours is said in adversarial.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from recbole_attn.attention.adversarial import Adversary, renormaliser
from recbole_attn.attention.base import Attended, Attention, full_precision, one_of, split_heads
from recbole_attn.attention.spatial import Spatial
from recbole_attn.masks import masked_softmax, select_rows

COMBINE = ("fixed", "annealing", "gate")
DROP = ("maps", "weights")


class Maps(NamedTuple):
    """A, A_com and 1-P in the query rows, (B, H, R, L), and while training the size of 1-P."""

    plain: Tensor
    combined: Tensor
    taken: Tensor | None = None
    penalty: Tensor | None = None


class Calibrated(Attention):
    """Calibrated attention; see `Attention` for shapes. `aux` is the size of 1-P, a scalar, or None.

    Args:
        spatial: makes the scores.
        adversary: attacks and calibrates the map; None leaves it as it is.
        combine: one of `COMBINE`.
        gate: g of "gate": "learned", or a number in [0, 1].
        gate_width: columns of the learned gate, at least the longest history; a shorter one uses the first of them.
        renorm: how the combined map is made to sum to 1 again, "softmax" or "divide".
        dropout_on: where dropout acts: on A and on P ("maps"), or on the final weights ("weights").
        attacks: give a shadow while training.

    Raises:
        ValueError: a value outside what is said above.
    """

    step: Tensor

    def __init__(
        self,
        *,
        hidden_size: int,
        n_heads: int,
        dropout: float,
        spatial: Spatial,
        adversary: Adversary | None,
        combine: str,
        gate: float | str,
        gate_width: int,
        renorm: str,
        dropout_on: str,
        attacks: bool,
    ):
        super().__init__(hidden_size=hidden_size, n_heads=n_heads, dropout=dropout)
        if gate != "learned" and not (isinstance(gate, (int, float)) and 0 <= gate <= 1):
            raise ValueError(f"gate must be learned or a number in [0, 1], not {gate!r}")
        if dropout_on == "maps" and renorm == "divide":
            raise ValueError(
                "dropout_on=maps needs renorm=softmax: dropped keep-masks make weights that renorm=divide cannot "
                "divide; with renorm=divide give noise=attention and dropout_on=weights"
            )
        self.spatial, self.adversary, self.attacks = spatial, adversary, attacks
        self.combine, self.gate = one_of("combine", combine, COMBINE), gate
        self.dropout_on = one_of("dropout_on", dropout_on, DROP)
        self.renorm, self.renormalise = renorm, renormaliser(renorm)
        if adversary is not None and combine == "gate" and gate == "learned":
            self.gate_map = nn.Linear(hidden_size, gate_width)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def weigh(self, x: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        return self._maps(x, mask, rows).combined

    def maps(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """softmax_M(QKᵀ/√d), A, P, A_att, A_cal and A_com; A_att draws its noise anew each time."""
        found = self._maps(x, mask, None)
        plain = masked_softmax(full_precision(self.scores(x)), mask)
        named = {"plain": plain, "spatially calibrated": found.plain}
        if self.adversary is None or found.taken is None:
            return named
        return {
            **named,
            "keep-mask": (1 - found.taken) * mask,
            "attacked": self.adversary.attack(found.plain, found.taken, mask),
            "calibrated": self.adversary.calibrate(found.plain, found.taken, mask),
            "combined": found.combined,
        }

    def attend(self, x: Tensor, values: Tensor, mask: Tensor, rows: Tensor | None = None) -> Attended:
        maps = self._maps(x, mask, rows)
        context = self._drop_weights(maps.combined) @ values
        return Attended(context, self._shadow(maps, values, mask, rows), maps.penalty)

    def _shadow(self, maps: Maps, values: Tensor, mask: Tensor, rows: Tensor | None) -> Tensor | None:
        if self.adversary is None or maps.taken is None or not (self.training and self.attacks):
            return None
        attacked = self.adversary.attack(maps.plain, maps.taken, select_rows(mask, rows))
        return self._drop_weights(attacked) @ values

    def advance(self) -> None:
        """Count a training step, which is what "annealing" goes by."""
        self.step += 1

    def _maps(self, x: Tensor, mask: Tensor, rows: Tensor | None) -> Maps:
        queries, keys, visible = self.query(select_rows(x, rows)), self.key(x), select_rows(mask, rows)
        scores = self.spatial(split_heads(queries, self.n_heads), split_heads(keys, self.n_heads), rows)
        dropout = self.dropout if self.dropout_on == "maps" else None
        plain = masked_softmax(scores, visible)
        plain = plain if dropout is None else dropout(plain)
        if self.adversary is None:
            return Maps(plain, plain)
        read = rows
        if self.training and self.adversary.counts_every_row:
            every = self.adversary.take(queries if rows is None else self.query(x), keys, mask, dropout)
            taken, counted, read = select_rows(every, rows), every, None
        else:
            taken = counted = self.adversary.take(queries, keys, visible, dropout)
        mixed = self._mix(plain, self.adversary.calibrate(plain, taken, visible), queries)
        penalty = self.adversary.size(counted, mask, read) if self.training else None
        return Maps(plain, self.renormalise(mixed, visible), taken, penalty)

    def _mix(self, plain: Tensor, calibrated: Tensor, queries: Tensor) -> Tensor:
        if self.combine == "fixed":
            return plain + 0.5 * calibrated
        return torch.lerp(calibrated, plain, self._share(queries, plain))

    def _share(self, queries: Tensor, plain: Tensor) -> Tensor:
        """The share of A in the mixture, broadcastable to it."""
        if self.combine == "annealing":
            return (self.step.to(plain.dtype) / -1e5).exp()
        if self.gate != "learned":
            return plain.new_tensor(self.gate)
        return self.gate_map(queries)[..., : plain.size(-1)].sigmoid().unsqueeze(1).to(plain.dtype)

    def _drop_weights(self, weights: Tensor) -> Tensor:
        return self.dropout(weights) if self.dropout_on == "weights" else weights
