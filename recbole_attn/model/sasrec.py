"""SASRec's backbone with an exchangeable mechanism (Kang and McAuley, ICDM 2018; the blocks are RecBole's).

Item and position embeddings, a causal encoder, tied item embeddings as output.
"""

from __future__ import annotations

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from recbole_attn.attention import Attention, Softmax
from recbole_attn.dropout import Dropout
from recbole_attn.encoder import Encoder, Layer
from recbole_attn.masks import causal_mask


class SASRecBackbone(SequentialRecommender):
    """Everything of a SASRec but its attention, which a subclass builds layer by layer in `build_attention`.

    Batches may be trimmed: `item_seq` is (B, n) with any n up to MAX_ITEM_LIST_LENGTH, padded on the right with 0.

    Raises:
        ValueError: a setting outside its range; the text names it.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        _check(config, self.max_seq_length)
        self.loss_type = config["loss_type"]
        hidden_size, eps = config["hidden_size"], config["layer_norm_eps"]
        self.item_embedding = nn.Embedding(self.n_items, hidden_size, padding_idx=0)
        self.position_embedding = nn.Embedding(self.max_seq_length, hidden_size)
        self.input_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.dropout = Dropout(config["hidden_dropout_prob"])
        self.encoder = Encoder(self._layer(config, depth) for depth in range(config["n_layers"]))
        self._initialise(config["initializer_range"])

    def build_attention(self, config, depth: int) -> Attention:
        """The mechanism of layer `depth`, counted from 0."""
        return softmax_attention(config)

    def _layer(self, config, depth: int) -> Layer:
        return Layer(
            self.build_attention(config, depth),
            hidden_size=config["hidden_size"],
            inner_size=config["inner_size"],
            dropout=config["hidden_dropout_prob"],
            activation=config["hidden_act"],
            norm_eps=config["layer_norm_eps"],
        )

    def _initialise(self, std: float) -> None:
        """Normal weights and no bias, as RecBole's SASRec starts; a mechanism's own parameters stay as they are."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def embed(self, item_seq: Tensor) -> Tensor:
        """(B, n) item ids → the encoder's input (B, n, D)."""
        x = self.item_embedding(item_seq) + self.position_embedding.weight[: item_seq.size(1)]
        return self.dropout(self.input_norm(x))

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Histories (B, n) and their lengths (B,) → the state after the last item (B, D)."""
        rows = (item_seq_len - 1)[:, None]
        return self.encoder(self.embed(item_seq), causal_mask(item_seq), rows).hidden.squeeze(1)

    def calculate_loss(self, interaction) -> Tensor:
        """Mean loss over the batch: cross-entropy over all items, or BPR against one sampled negative."""
        state = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        target = interaction[self.POS_ITEM_ID]
        if self.loss_type == "CE":
            return cross_entropy(state @ self.item_embedding.weight.T, target)
        margin = self._score(state, target) - self._score(state, interaction[self.NEG_ITEM_ID])
        return -logsigmoid(margin).mean()

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


def softmax_attention(config) -> Softmax:
    """Plain attention with the sizes of the config."""
    return Softmax(hidden_size=config["hidden_size"], n_heads=config["n_heads"], dropout=config["attn_dropout_prob"])


def _check(config, max_length: int) -> None:
    if max_length < 1:
        raise ValueError(f"MAX_ITEM_LIST_LENGTH must be at least 1, not {max_length}")
    for name in ("n_layers", "hidden_size"):
        if config[name] < 1:
            raise ValueError(f"{name} must be at least 1, not {config[name]}")
    if not 0 <= config["hidden_dropout_prob"] < 1:
        raise ValueError(f"hidden_dropout_prob must lie in [0, 1), not {config['hidden_dropout_prob']}")
    if config["loss_type"] not in ("CE", "BPR"):
        raise ValueError(f"loss_type must be CE or BPR, not {config['loss_type']!r}")
