"""SASRec's backbone with an exchangeable mechanism (Kang and McAuley, ICDM 2018; the blocks are RecBole's).

Item and position embeddings, a causal encoder, tied item embeddings as output.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from recbole_attn.cross_entropy import chunked_cross_entropy
from recbole_attn.encoder import Encoded
from recbole_attn.masks import causal_mask
from recbole_attn.model.backbone import Backbone


class SASRecBackbone(Backbone):
    """A SASRec but for its attention, which a subclass builds layer by layer in `build_attention`.

    It trains on prefixes, one target (B,) after the last item of each history, or on whole sequences, with targets
    (B, n) after every item; a target of 0 does not count.
    """

    one_pass = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.ce_chunk = config["ce_chunk"]
        self.initialise(config["initializer_range"])

    def encode(self, item_seq: Tensor, rows: Tensor | None) -> Encoded:
        """Histories (B, n), read at the positions `rows` (B, R), or at all of them."""
        return self.encoder(self.embed(item_seq), causal_mask(item_seq), rows)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Histories (B, n) and their lengths (B,) → the state after the last item (B, D)."""
        return self.encode(item_seq, item_seq_len[:, None] - 1).hidden.squeeze(1)

    def learn(self, interaction) -> tuple[Encoded, Callable[[Tensor], Tensor]]:
        whole = interaction[self.POS_ITEM_ID].dim() == 2
        rows = None if whole else interaction[self.ITEM_SEQ_LEN][:, None] - 1
        return self.encode(interaction[self.ITEM_SEQ], rows), partial(self._loss, interaction=interaction)

    def _loss(self, hidden: Tensor, interaction) -> Tensor:
        """Mean over the targets: cross-entropy over all items, or BPR against one sampled negative.

        Args:
            hidden: (B, 1, D) with one target for each history, (B, n, D) with one for each position.
        """
        target = interaction[self.POS_ITEM_ID]
        counted = slice(None) if target.dim() == 1 else target != 0
        state, target = hidden.view(*target.shape, -1)[counted], target[counted]
        if self.loss_type == "CE":
            return self._cross_entropy(state, target)
        margin = self._score(state, target) - self._score(state, interaction[self.NEG_ITEM_ID][counted])
        return -logsigmoid(margin).mean()

    def _cross_entropy(self, state: Tensor, target: Tensor) -> Tensor:
        items = self.item_embedding.weight
        if self.ce_chunk is None:
            return cross_entropy(state @ items.T, target)
        return chunked_cross_entropy(state, items, target, self.ce_chunk)

    def predict(self, interaction) -> Tensor:
        """The score of one item for each history, (B,)."""
        state = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return self._score(state, interaction[self.ITEM_ID])

    def full_sort_predict(self, interaction) -> Tensor:
        """The scores of all items for each history, (B, N)."""
        state = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return state @ self.item_embedding.weight.T

    def _score(self, state: Tensor, items: Tensor) -> Tensor:
        return torch.einsum("bd,bd->b", state, self.item_embedding(items))
