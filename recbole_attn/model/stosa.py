"""STOSA: items and histories are Gaussians, near ones are recommended (WWW 2022; see attention/stochastic.py).

    X_μ = ELU(Drop LN(E_μ+P_μ)),  X_Σ = ELU(Drop LN(E_Σ+P_Σ)) + 1
    d(item) = W₂²(state, (E_μ[item], ELU(E_Σ[item]) + 1)),  score = -d
    loss = -log σ(d⁻ - d⁺) + pvn_weight · max(0, d⁺ - W₂²(item⁺, item⁻))

Source: the released code, but that every norm is of one stream only, and that means are updated unless `legacy_mean`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, relu

from recbole_attn.attention import Refinement, Stochastic
from recbole_attn.attention.gaussian import covariance, points, squared_distances
from recbole_attn.model.sasrec import SASRecBackbone
from recbole_attn.stochastic_encoder import StochasticLayer


class STOSA(SASRecBackbone):
    """SASRec's backbone with a stream of means and one of covariances: states are (B, n, 2D), means first."""

    losses = ("BPR",)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if config["pvn_weight"] < 0:
            raise ValueError(f"pvn_weight must be at least 0, not {config['pvn_weight']}")
        self.pvn_weight, hidden_size = config["pvn_weight"], config["hidden_size"]
        self.item_covariance = nn.Embedding(self.n_items, hidden_size, padding_idx=0)
        self.position_covariance = nn.Embedding(self.n_positions, hidden_size)
        self.covariance_norm = nn.LayerNorm(hidden_size, eps=config["layer_norm_eps"])
        self.initialise(config["initializer_range"])  # once more, now that all parts are there

    def build_attention(self, config, depth: int) -> Stochastic:
        return Stochastic(
            hidden_size=config["hidden_size"],
            n_heads=config["n_heads"],
            dropout=config["attn_dropout_prob"],
            refinement=self.build_refinement(config, depth),
        )

    def build_refinement(self, config, depth: int) -> Refinement | None:
        """What becomes of the weights of layer `depth`; None leaves them as they are."""
        return None

    def _layer(self, config, depth: int) -> StochasticLayer:
        return StochasticLayer(
            self.build_attention(config, depth),
            legacy_mean=config["legacy_mean"],
            hidden_size=config["hidden_size"],
            inner_size=config["inner_size"],
            dropout=config["hidden_dropout_prob"],
            norm_eps=config["layer_norm_eps"],
        )

    def embed(self, item_seq: Tensor) -> Tensor:
        """(B, n) item ids → means and covariances (B, n, 2D)."""
        mean = super().embed(item_seq)
        raw = self.item_covariance(item_seq) + self.position_covariance.weight[: item_seq.size(1)]
        return torch.cat([elu(mean), covariance(self.dropout(self.covariance_norm(raw)))], -1)

    def _pairwise(self, state: Tensor, target: Tensor, negative: Tensor) -> Tensor:
        """BPR, and a penalty where the target is further from the state than from the negative item."""
        to_negative = (self._points_of(target) - self._points_of(negative)).square().sum(-1)
        excess = relu(-self._score(state, target) - to_negative).mean()
        return super()._pairwise(state, target, negative) + self.pvn_weight * excess

    def score_items(self, state: Tensor, first: int, last: int) -> Tensor:
        items = torch.arange(first, last, device=state.device)
        return -squared_distances(points(*state.chunk(2, -1)), self._points_of(items))

    def _score(self, state: Tensor, items: Tensor) -> Tensor:
        return -(points(*state.chunk(2, -1)) - self._points_of(items)).square().sum(-1)

    def _points_of(self, items: Tensor) -> Tensor:
        """Item ids (M,) → the points (M, 2D) of their Gaussians."""
        return points(self.item_embedding(items), covariance(self.item_covariance(items)))
