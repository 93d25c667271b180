"""Adversarial calibrator: an attacker learns which weights matter, and the calibrated map gets more of just those.

    q' = W_aq q, k' = W_ak k                 on the projected queries and keys, all heads mixed
    P     = keep-mask                        softmax_M(q'_i·k'_j/√d), or σ(q'_i·k'_j/√d + s), near 1 at the start
    A_att = renorm_M(A∘P + N∘(1-P))          the attacked map, N noise; only a loss sees what comes of it
    A_cal = renorm_M(A∘exp(1-P))             the calibrated map: more weight where the attacker would take it

Source: AC-TSR (CIKM 2023, arXiv 2308.09419). The released code has softmax for P and for renorm_M and Gaussian noise;
sigmoid, division by the visible sum and noise that is itself an attention row are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recbole_attn.attention.base import full_precision, one_of, split_heads
from recbole_attn.dropout import Dropout
from recbole_attn.masks import masked_softmax, read_first, select_rows

KEEP = ("softmax", "sigmoid")
NOISE = ("gaussian", "attention")
RENORM = ("softmax", "divide")
PENALTY = ("frobenius", "rms")


class Adversary(nn.Module):
    """The attacker's projections, and the two maps that its keep-mask makes of an attention map.

    Args:
        hidden_size: D.
        n_heads: H.
        keep_mask: how P is made, one of `KEEP`.
        keep_start: P of "sigmoid" where the projections are 0, as they nearly are at the start.
        noise: N, one of `NOISE`.
        renorm: how a map is made to sum to 1 again, one of `RENORM`.
        penalty: the size of 1-P: its Frobenius norm ("frobenius"), or the root of its mean square over the visible
            cells of items ("rms").

    Raises:
        ValueError: a value outside what is said above.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        n_heads: int,
        keep_mask: str,
        keep_start: float,
        noise: str,
        renorm: str,
        penalty: str,
    ):
        super().__init__()
        if not 0 < keep_start < 1:
            raise ValueError(f"keep_start must lie in (0, 1), not {keep_start}")
        if noise == "gaussian" and renorm == "divide":
            raise ValueError(
                "noise=gaussian needs renorm=softmax: the sum that renorm=divide divides by may be 0 or less; with "
                "renorm=divide give noise=attention and dropout_on=weights"
            )
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.n_heads = n_heads
        self.kind = one_of("keep_mask", keep_mask, KEEP)
        self.noise, self.penalty = one_of("noise", noise, NOISE), one_of("penalty", penalty, PENALTY)
        self.start = math.log(keep_start / (1 - keep_start))
        self.renormalise = renormaliser(renorm)

    def take(self, queries: Tensor, keys: Tensor, mask: Tensor, dropout: Dropout | None) -> Tensor:
        """1-P (B, H, R, L), the share of each weight that is taken.

        Args:
            queries: projected queries (B, R, D).
            keys: projected keys (B, L, D).
            mask: (B, 1, R, L).
            dropout: acts on P; None where it does not.
        """
        keys = split_heads(self.key(keys), self.n_heads)
        queries = split_heads(self.query(queries), self.n_heads) / math.sqrt(keys.size(-1))
        if self.kind == "sigmoid":
            taken = full_precision(-queries @ keys.transpose(-1, -2)).sub_(self.start).sigmoid_()
        else:
            taken = 1 - masked_softmax(full_precision(queries @ keys.transpose(-1, -2)), mask)
        return taken if dropout is None else 1 - dropout(1 - taken)

    def attack(self, weights: Tensor, taken: Tensor, mask: Tensor) -> Tensor:
        """A_att of A and 1-P, all (B, H, R, L); mask (B, 1, R, L)."""
        return self.renormalise(torch.lerp(weights, self.draw_noise(weights, mask), taken), mask)

    def draw_noise(self, weights: Tensor, mask: Tensor) -> Tensor:
        """N, in the shape of `weights`."""
        noise = torch.randn_like(weights)
        return masked_softmax(noise, mask) if self.noise == "attention" else noise

    def calibrate(self, weights: Tensor, taken: Tensor, mask: Tensor) -> Tensor:
        """A_cal of A and 1-P, all (B, H, R, L); mask (B, 1, R, L)."""
        return self.renormalise(weights * taken.exp(), mask)

    @property
    def counts_every_row(self) -> bool:
        """Whether the penalty counts the rows that nobody reads, too."""
        return self.penalty == "frobenius"

    def size(self, taken: Tensor, mask: Tensor, rows: Tensor | None) -> Tensor:
        """The penalty, a scalar: 1-P is (B, H, R, L) in `rows` of the mask (B, 1, L, L).

        "rms" counts a row once that `rows` has twice.
        """
        if self.penalty == "frobenius":
            return torch.linalg.vector_norm(taken)
        items = mask.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)  # an item may read itself
        cells = select_rows(mask & items, rows)
        if rows is not None:
            cells = cells & read_first(rows)[:, None, :, None]
        cells = cells.to(taken.dtype)
        return torch.linalg.vector_norm(taken * cells) / (cells.sum() * self.n_heads).clamp_min(1).sqrt()


def renormaliser(renorm: str):
    """The function of maps (B, H, R, L) and their mask that `renorm` names."""
    return {"softmax": masked_softmax, "divide": _divide}[one_of("renorm", renorm, RENORM)]


def _divide(weights: Tensor, mask: Tensor) -> Tensor:
    """Weights that are at least 0, and 0 outside the mask, divided by the sum of their row."""
    total = weights.sum(-1, keepdim=True)
    return weights * total.masked_fill(total == 0, 1.0).reciprocal()  # cheaper backwards than a division of all cells
