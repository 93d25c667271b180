"""RPG: items are several codes each, which are predicted all at once (KDD 2025; see codes.py).

The items' vectors, heads, loss and scores are those of the paper and its released code. The blocks are those of
RecBole's SASRec, normed after each sublayer; the released code has GPT-2's, normed before it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recbole_attn.codes import CodedItems
from recbole_attn.encoder import Encoded
from recbole_attn.masks import causal_mask
from recbole_attn.model.sasrec import CausalBackbone
from recbole_attn.model.semantic import semantic_ids_for

_FEWEST = 16  # histories that are worth an encoding of their own


class RPG(CausalBackbone):
    """Histories of items that are codes, and scores of all items from K predicted codes.

    The config of a checkpoint keeps its codes, so whoever builds the model from one has them; see semantic.py.
    """

    losses = ("CE",)
    item_embedding: CodedItems

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.initialise(config["initializer_range"])

    def build_items(self, config, dataset) -> CodedItems:
        ids = semantic_ids_for(config, dataset)
        if len(ids.codes) != self.n_items:
            raise ValueError(f"semantic ids must have {self.n_items} rows, padding's first, not {len(ids.codes)}")
        self.semantic_report = ids.report
        self.other_parameter_name = ["semantic_report"]
        return CodedItems(
            ids.codes, n_values=ids.n_values, hidden_size=config["hidden_size"], temperature=config["temperature"]
        )

    def encode(self, item_seq: Tensor, rows: Tensor | None, read: Tensor | None = None) -> Encoded:
        return Encoded(self._read(self.item_embedding, item_seq, rows, read), None, [])

    def _read(
        self,
        embed: Callable[[Tensor], Tensor],
        item_seq: Tensor,
        rows: Tensor | None,
        read: Tensor | None,
    ) -> Tensor:
        """States of histories (B, n) of items that `embed` makes vectors of; see `encode`.

        Where training reads the last position alone, histories of like length are encoded together: in a batch of
        prefixes most are short, and would be padded to the longest. Otherwise a batch stays whole, for whoever looks
        into its maps.
        """
        if rows is None or not self.training:
            return self.encoder(self.place(embed(item_seq)), causal_mask(item_seq), rows, read).hidden
        order = rows[:, 0].argsort(stable=True)  # which keeps the two of a pair side by side
        item_seq, rows = item_seq[order], rows[order]
        sizes, states = _halves(len(order)), []
        # Cut by `split`, whose gradient is put together in one piece.
        for x, items, last in zip(embed(item_seq).split(sizes), item_seq.split(sizes), rows.split(sizes)):
            width = int(last.max()) + 1
            states.append(self.encoder(self.place(x[:, :width]), causal_mask(items[:, :width]), last).hidden)
        return torch.cat(states)[order.argsort()]

    def _loss(self, hidden: Tensor, interaction) -> Tensor:
        target = interaction[self.POS_ITEM_ID]
        return self.item_embedding.loss(hidden.flatten(0, -2), target[target != 0])

    def predict(self, interaction) -> Tensor:
        """The score of one item for each history, (B,)."""
        state = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return self.item_embedding.score_one(state, interaction[self.ITEM_ID])

    def user_state(self, interaction) -> Tensor:
        """What each value of each code adds to an item's score, (B, K·V)."""
        return self.item_embedding.tabulate(super().user_state(interaction)).T

    def score_items(self, state: Tensor, first: int, last: int) -> Tensor:
        return self.item_embedding.score(state.T, first, last)


def _halves(n: int) -> list[int]:
    """Half of n, half of what remains, and so on: lengths are skewed, and few histories are long."""
    sizes = []
    while n > 2 * _FEWEST:
        sizes.append(n // 2)
        n -= n // 2
    return [*sizes, n]
