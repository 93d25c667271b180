"""What all backbones share: embeddings, an encoder with an exchangeable mechanism, initial weights, tied scores."""

from __future__ import annotations

from collections.abc import Callable

from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn

from recbole_attn.attention import Attention, Softmax
from recbole_attn.dropout import Dropout
from recbole_attn.encoder import Encoded, Encoder, Layer


class Backbone(SequentialRecommender):
    """Everything of a Transformer recommender but its attention and its training targets.

    Batches may be trimmed: `item_seq` is (B, n) with any n up to MAX_ITEM_LIST_LENGTH, padded on the right with 0.
    A subclass calls `initialise` when it is complete.

    Scoring has two steps, so that large catalogues can be ranked in chunks and `full_sort_predict` follows from them:
    `user_state(interaction)` is a tensor (B, ...) with all that the scores depend on, a row for each history, and
    `score_items(state, first, last)` gives those rows', or some of those rows', scores (B, last - first) of the items
    first … last - 1, in a tensor of the caller's own. Item 0 is padding; the caller leaves it out.

    Attributes:
        losses: what `loss_type` may be.
        one_pass: whether it can train on whole sequences, a target at every position.
        added_tokens, added_positions: how many a backbone needs beyond the items and beyond the longest history.

    Raises:
        ValueError: a setting outside its range; the text names it.
    """

    losses: tuple[str, ...] = ("CE", "BPR")
    one_pass = False
    added_tokens = added_positions = 0

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self._check(config)
        self.loss_type = config["loss_type"]
        if config["training"] == "sequence" and config["precision"] is None:  # which every config of our runner has
            self.logger.warning(
                f"training = sequence: RecBole's own entry points train {config['model']} on prefixes; "
                "run_recbole_attn.py makes batches of whole sequences"
            )
        self.n_positions = self.max_seq_length + self.added_positions
        hidden_size, eps = config["hidden_size"], config["layer_norm_eps"]
        self.item_embedding = self.build_items(config, dataset)
        if self.has_positions(config):
            self.position_embedding = nn.Embedding(self.n_positions, hidden_size)
        self.input_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.dropout = Dropout(config["hidden_dropout_prob"])
        self.encoder = Encoder(self._layer(config, depth) for depth in range(config["n_layers"]))

    def _check(self, config) -> None:
        if self.max_seq_length < 1:
            raise ValueError(f"MAX_ITEM_LIST_LENGTH must be at least 1, not {self.max_seq_length}")
        for name in ("n_layers", "hidden_size"):
            if config[name] < 1:
                raise ValueError(f"{name} must be at least 1, not {config[name]}")
        if not 0 <= config["hidden_dropout_prob"] < 1:
            raise ValueError(f"hidden_dropout_prob must lie in [0, 1), not {config['hidden_dropout_prob']}")
        if config["loss_type"] not in self.losses:
            raise ValueError(f"loss_type must be {' or '.join(self.losses)}, not {config['loss_type']!r}")

    def build_items(self, config, dataset) -> nn.Module:
        """What makes vectors (..., D) of item ids (...)."""
        return nn.Embedding(self.n_items + self.added_tokens, config["hidden_size"], padding_idx=0)

    def build_attention(self, config, depth: int) -> Attention:
        """The mechanism of layer `depth`, counted from 0."""
        return softmax_attention(config)

    def has_positions(self, config) -> bool:
        """Whether positions are embedded."""
        return True

    def _layer(self, config, depth: int) -> nn.Module:
        return Layer(
            self.build_attention(config, depth),
            hidden_size=config["hidden_size"],
            inner_size=config["inner_size"],
            dropout=config["hidden_dropout_prob"],
            activation=config["hidden_act"],
            norm_eps=config["layer_norm_eps"],
        )

    def initialise(self, std: float) -> None:
        """Normal weights and no bias, as RecBole's models start; a mechanism's own parameters stay as they are."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def embed(self, item_seq: Tensor) -> Tensor:
        """(B, n) item ids → the encoder's input (B, n, D)."""
        return self.place(self.item_embedding(item_seq))

    def place(self, x: Tensor) -> Tensor:
        """Vectors of items (B, n, D) → the encoder's input (B, n, D)."""
        if hasattr(self, "position_embedding"):
            x = x + self.position_embedding.weight[: x.size(1)]
        return self.dropout(self.input_norm(x))

    def user_state(self, interaction) -> Tensor:
        """What the scores of a batch depend on, (B, ...): here the state (B, D) that `forward` gives."""
        return self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])

    def score_items(self, state: Tensor, first: int, last: int) -> Tensor:
        """The scores of the items first … last - 1 for each row of `state`, (B, last - first)."""
        raise NotImplementedError

    def full_sort_predict(self, interaction) -> Tensor:
        """The scores of all items for each history, (B, N)."""
        return self.score_items(self.user_state(interaction), 0, self.n_items)

    def learn(self, interaction) -> tuple[Encoded, Callable[[Tensor], Tensor]]:
        """What the encoder makes of a training batch, and the loss of its hidden states, or of their shadow."""
        raise NotImplementedError

    def calculate_loss(self, interaction) -> Tensor | tuple[Tensor, ...]:
        """The loss of a training batch, or its parts: RecBole's trainer logs each, and goes backward from their sum."""
        encoded, loss = self.learn(interaction)
        return loss(encoded.hidden)


def softmax_attention(config) -> Softmax:
    """Plain attention with the sizes of the config."""
    return Softmax(hidden_size=config["hidden_size"], n_heads=config["n_heads"], dropout=config["attn_dropout_prob"])


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
