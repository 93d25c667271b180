"""SASRec's backbone with an exchangeable mechanism (Kang and McAuley, ICDM 2018; the blocks are RecBole's).

Item and position embeddings, a causal encoder, tied item embeddings as output.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from recbole_attn.attention.base import full_precision
from recbole_attn.cross_entropy import item_cross_entropy
from recbole_attn.encoder import Encoded
from recbole_attn.masks import causal_mask
from recbole_attn.model.backbone import Backbone
from recbole_attn.sampled import Draw, NegativeSampler, gbce, gbce_beta, sampled_softmax, scores_of

SAMPLED = ("SSM", "gBCE")  # losses that draw their own negatives


class CausalBackbone(Backbone):
    """A causal encoder, whatever its items are and however it scores them.

    It trains on prefixes, one target (B,) after the last item of each history, or on whole sequences, with targets
    (B, n) after every item; a target of 0 does not count.
    """

    one_pass = True

    def encode(self, item_seq: Tensor, rows: Tensor | None, read: Tensor | None = None) -> Encoded:
        """Histories (B, n), read at the positions `rows` (B, R), or at those `read` (M,) of all B·n, or everywhere."""
        return self.encoder(self.embed(item_seq), causal_mask(item_seq), rows, read)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Histories (B, n) and their lengths (B,) → the state after the last item (B, D)."""
        return self.encode(item_seq, item_seq_len[:, None] - 1).hidden.squeeze(1)

    def learn(self, interaction) -> tuple[Encoded, Callable[[Tensor], Tensor]]:
        encoded = self.encode(interaction[self.ITEM_SEQ], *self._places(interaction))
        return encoded, partial(self._loss, interaction=interaction)

    def _places(self, interaction) -> tuple[Tensor | None, Tensor | None]:
        """Where training reads: `rows` and `read` of `encode`."""
        target = interaction[self.POS_ITEM_ID]
        if target.dim() == 1:
            return interaction[self.ITEM_SEQ_LEN][:, None] - 1, None
        return None, target.flatten().nonzero().squeeze(1)

    def _loss(self, hidden: Tensor, interaction) -> Tensor:
        """Mean over the T targets that count; hidden states (T, D) or, with one target for each history, (T, 1, D)."""
        raise NotImplementedError


class SASRecBackbone(CausalBackbone):
    """A SASRec but for its attention, which a subclass builds layer by layer in `build_attention`.

    Scores are dot products with the item embeddings; the sampled losses rest on that, so a subclass that scores
    otherwise leaves them out of `losses`.
    """

    losses: tuple[str, ...] = ("CE", "BPR", *SAMPLED)
    item_embedding: nn.Embedding

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.ce_chunk = config["ce_chunk"]
        self.sampler = _sampler(config, dataset, self.n_items) if self.loss_type in SAMPLED else None
        self.logq_correction = config["logq_correction"]
        if self.loss_type == "gBCE":
            self.beta = gbce_beta(config["n_negatives"], self.n_items, config["gbce_t"])
        self.initialise(config["initializer_range"])

    def learn(self, interaction) -> tuple[Encoded, Callable[[Tensor], Tensor]]:
        if self.sampler is None:
            return super().learn(interaction)
        # Drawn here, so that hidden states and their shadow are asked about the same negatives.
        draw = self.sampler.draw(int((interaction[self.POS_ITEM_ID] != 0).sum()))
        encoded, _ = super().learn(interaction)
        return encoded, partial(self._loss, interaction=interaction, draw=draw)

    def _loss(self, hidden: Tensor, interaction, draw: Draw | None = None) -> Tensor:
        """Mean over the targets: cross-entropy over all items, or against negatives, BPR against one."""
        target = interaction[self.POS_ITEM_ID]
        counted = slice(None) if target.dim() == 1 else target != 0
        state, target = hidden.flatten(0, -2), target[counted]
        if self.loss_type == "CE":
            return item_cross_entropy(state, self.item_embedding.weight, target, self.ce_chunk)
        if draw is not None:
            return self._sampled(state, target, draw)
        return self._pairwise(state, target, interaction[self.NEG_ITEM_ID][counted])

    def _pairwise(self, state: Tensor, target: Tensor, negative: Tensor) -> Tensor:
        better = full_precision(self._score(state, target)) - full_precision(self._score(state, negative))
        return -logsigmoid(better).mean()

    def _sampled(self, state: Tensor, target: Tensor, draw: Draw) -> Tensor:
        positive, hit = full_precision(self._score(state, target)), draw.items == target[:, None]
        negative = full_precision(scores_of(state, draw.items, self.item_embedding.weight))
        if self.loss_type == "gBCE":
            return gbce(positive, negative, hit, self.beta)
        return sampled_softmax(positive, negative, draw.log_expected if self.logq_correction else None, hit)

    def predict(self, interaction) -> Tensor:
        """The score of one item for each history, (B,)."""
        return self._score(self.user_state(interaction), interaction[self.ITEM_ID])

    def score_items(self, state: Tensor, first: int, last: int) -> Tensor:
        return state @ self.item_embedding.weight[first:last].T

    def _score(self, state: Tensor, items: Tensor) -> Tensor:
        return torch.einsum("bd,bd->b", state, self.item_embedding(items))


def _sampler(config, dataset, n_items: int) -> NegativeSampler:
    """The sampler of a training set; one of a bare catalogue, which trains nothing, knows no counts."""
    if config["negatives_per"] not in ("batch", "target"):
        raise ValueError(f"negatives_per must be batch or target, not {config['negatives_per']!r}")
    if config["loss_type"] == "gBCE" and config["negative_distribution"] == "popularity":
        raise ValueError("negative_distribution must be uniform for loss_type=gBCE, whose β is derived for that")
    rows = getattr(dataset, "inter_feat", None)
    counts = None if rows is None else torch.bincount(rows[config["ITEM_ID_FIELD"]], minlength=n_items)
    return NegativeSampler(
        n_items=n_items,
        n_negatives=config["n_negatives"],
        distribution=config["negative_distribution"],
        counts=counts,
        per_target=config["negatives_per"] == "target",
    )
