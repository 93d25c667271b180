"""BERT4Rec's backbone with an exchangeable mechanism (Sun et al., CIKM 2019; head and scores are RecBole's).

Items of a history, its target included, are masked and told from both sides; scoring appends a masked item. Other
than in RecBole 1.2.1, a masked first item counts in the loss, no masked item is left out of it, no first item is
dropped to make room for the appended one, which has a position of its own, and masking is vectorised. RecBole masks the
history alone, so that a user's last training item is never asked for; here the target is part of what is masked, each
history has at least one mask, and `ft_ratio` is drawn for each history instead of each batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from recbole_attn.cross_entropy import item_cross_entropy
from recbole_attn.encoder import Encoded
from recbole_attn.masks import bidirectional_mask
from recbole_attn.model.backbone import Backbone


class Cloze(NamedTuple):
    """Histories with items masked (B, n), positions to read (B, R), which of those count, and their items (M,)."""

    item_seq: Tensor
    rows: Tensor
    counts: Tensor
    targets: Tensor


class BERT4RecBackbone(Backbone):
    """A BERT4Rec but for its attention, which a subclass builds layer by layer in `build_attention`."""

    item_embedding: nn.Embedding
    losses = ("CE",)
    added_tokens = added_positions = 1  # the mask token, and the place where scoring appends it

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.mask_ratio, self.last_ratio = config["mask_ratio"], config["ft_ratio"]
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie in (0, 1), not {self.mask_ratio}")
        if not 0 <= self.last_ratio <= 1:
            raise ValueError(f"ft_ratio must lie in [0, 1], not {self.last_ratio}")
        self.ce_chunk, hidden_size = config["ce_chunk"], config["hidden_size"]
        self.head = nn.Linear(hidden_size, hidden_size)
        self.head_norm = nn.LayerNorm(hidden_size, eps=config["layer_norm_eps"])
        self.item_bias = nn.Parameter(torch.zeros(self.n_items))
        self.initialise(config["initializer_range"])

    @property
    def mask_token(self) -> int:
        return self.n_items

    def encode(self, item_seq: Tensor, rows: Tensor, read: Tensor | None = None) -> Encoded:
        """Histories (B, n) with masked items, read at the positions `rows` (B, R), or at those `read` (M,) of B·R."""
        return self.encoder(self.embed(item_seq), bidirectional_mask(item_seq), rows, read)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Histories (B, n) and their lengths (B,) → the state of a masked item after the last one (B, D)."""
        rows = item_seq_len[:, None]
        asked = append(item_seq, rows, torch.full_like(rows, self.mask_token))
        return self._state(self.encode(asked, rows).hidden.squeeze(1))

    def _state(self, hidden: Tensor) -> Tensor:
        return self.head_norm(gelu(self.head(hidden)))

    def learn(self, interaction) -> tuple[Encoded, Callable[[Tensor], Tensor]]:
        rows, target = interaction[self.ITEM_SEQ_LEN][:, None], interaction[self.POS_ITEM_ID][:, None]
        item_seq = append(interaction[self.ITEM_SEQ], rows, target)
        cloze = self.cloze(item_seq, self.draw_masks(item_seq))
        read = cloze.counts.flatten().nonzero().squeeze(1)
        return self.encode(cloze.item_seq, cloze.rows, read), partial(self._loss, cloze=cloze)

    def draw_masks(self, item_seq: Tensor) -> Tensor:
        """Which items to mask, bool (B, n): each with `mask_ratio`, at least one; or, with `ft_ratio`, the last."""
        items = item_seq != 0
        draws = torch.rand(item_seq.shape, device=item_seq.device).masked_fill(~items, 2.0)
        some = (draws < self.mask_ratio) | (draws == draws.amin(-1, keepdim=True))
        last = torch.arange(item_seq.size(1), device=item_seq.device) == items.sum(-1, keepdim=True) - 1
        only_last = torch.rand(item_seq.size(0), 1, device=item_seq.device) < self.last_ratio
        return torch.where(only_last, last, some)

    def cloze(self, item_seq: Tensor, masks: Tensor) -> Cloze:
        """What to ask of histories (B, n) with the masks (B, n), of which each row has at least one."""
        amount = masks.sum(-1, keepdim=True)
        counts = torch.arange(int(amount.max()), device=masks.device) < amount
        first = masks.to(torch.uint8).sort(dim=-1, descending=True, stable=True).indices[:, : counts.size(1)]
        rows = torch.where(counts, first, first[:, :1])  # a history with fewer masks reads its first again
        targets = item_seq.gather(1, rows)[counts]
        return Cloze(item_seq.masked_fill(masks, self.mask_token), rows, counts, targets)

    def _loss(self, hidden: Tensor, cloze: Cloze) -> Tensor:
        """Mean cross-entropy over the masked items, given their hidden states (M, D)."""
        state = pad(self._state(hidden), (0, 1), value=1.0)  # that bias is one more column of the items
        items = torch.cat([self.item_embedding.weight[: self.n_items], self.item_bias[:, None]], -1)
        return item_cross_entropy(state, items, cloze.targets, self.ce_chunk)

    def score_items(self, state: Tensor, first: int, last: int) -> Tensor:
        return torch.addmm(self.item_bias[first:last], state, self.item_embedding.weight[first:last].T)

    def predict(self, interaction) -> Tensor:
        """The score of one item for each history, (B,)."""
        state, items = self.user_state(interaction), interaction[self.ITEM_ID]
        return torch.einsum("bd,bd->b", state, self.item_embedding(items)) + self.item_bias[items]


def append(item_seq: Tensor, lengths: Tensor, items: Tensor) -> Tensor:
    """Histories (B, n), padded on the right, with one more item each (B, n+1); lengths and items are (B, 1)."""
    return pad(item_seq, (0, 1)).scatter(1, lengths, items)
