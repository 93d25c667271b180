"""Items that are K codes each: their vectors, the loss of predicted codes, and the scores of all items.

    e_i        = mean_k E_k[code_k(i)]                          an item's vector
    p_k        = h + SiLU(W_k h + b_k)                          K heads on a state h
    logit_k(v) = cos(p_k, E_k[v]) / τ
    loss       = mean_k CE(logit_k, code_k(next item))
    score(i)   = mean_k (log softmax_v logit_k)[code_k(i)]

Source: RPG (KDD 2025) and its released code.

Shapes: N items, K codes of V values, D hidden size, B states. Item 0 is padding: its vector is 0, its score is none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, embedding_bag, normalize, pad, silu

from recbole_attn.lookup import add_up, can_add_up
from recbole_attn.semantic_ids import compact

_STATES, _ITEMS = 64, 4096  # scored at one time: 1 MiB of scores, which a CPU's cache holds beside the table
_NARROW = 8  # narrower rows miss the vectorised path of `embedding_bag`


class CodedItems(nn.Module):
    """The embeddings and the heads of items that are given by their codes.

    Args:
        codes: (N, K), values in [0, n_values).
        n_values: V.
        hidden_size: D.
        temperature: τ.

    Raises:
        ValueError: a table of another shape or with other values, or a temperature that is not positive.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, *, n_values: int, hidden_size: int, temperature: float):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be greater than 0, not {temperature}")
        _check(codes, n_values)
        self.temperature, self.n_values = temperature, n_values
        self.register_buffer("codes", compact(codes, n_values))
        self.embedding = nn.Embedding(codes.size(1) * n_values, hidden_size)
        self.heads = nn.Linear(hidden_size, codes.size(1) * hidden_size)

    @property
    def n_codes(self) -> int:
        return self.codes.size(1)

    def forward(self, items: Tensor) -> Tensor:
        """Item ids of any shape (...) → their vectors (..., D). Each distinct item is made once."""
        present = torch.zeros(len(self.codes), dtype=torch.bool, device=items.device)
        present[items] = True
        distinct, number = present.nonzero().squeeze(1), present.cumsum(0) - 1
        return embedding(number[items], self._mean(distinct))

    def _mean(self, items: Tensor) -> Tensor:
        vectors = embedding_bag(self._tokens(self.codes[items]), self.embedding.weight, mode="mean")
        return vectors * (items != 0).unsqueeze(-1)

    def _tokens(self, codes: Tensor) -> Tensor:
        """Codes (B, K) → the rows of all K embeddings, one below the other."""
        return codes + torch.arange(self.n_codes, dtype=torch.int32, device=codes.device) * self.n_values

    def perturbed(self, item_seq: Tensor, mask_rate: float, replace_rate: float) -> Tensor:
        """Histories (B, n) → vectors (B, n, D) of items that have lost some codes and got others in place of some.

        Args:
            mask_rate: the share of codes that the mean leaves out; an item that loses all of them becomes 0.
            replace_rate: the share of codes that are drawn anew, uniformly.
        """
        items = item_seq != 0
        codes = self.codes[item_seq[items]]
        draws = torch.rand(codes.shape, device=codes.device)
        others = torch.randint_like(codes, self.n_values, dtype=torch.int32)
        codes = torch.where(draws > 1 - replace_rate, others, codes)
        kept = (draws >= mask_rate).to(self.embedding.weight.dtype)
        share = kept / kept.sum(-1, keepdim=True).clamp_min(1)
        vectors = embedding_bag(self._tokens(codes), self.embedding.weight, mode="sum", per_sample_weights=share)
        x = vectors.new_zeros(*item_seq.shape, vectors.size(-1))
        x[items] = vectors
        return x

    def logits(self, states: Tensor) -> Tensor:
        """States (B, D) → (K, B, V)."""
        heads = silu(self.heads(states)).unflatten(-1, (self.n_codes, -1)) + states.unsqueeze(1)
        values = normalize(self.embedding.weight, dim=-1).unflatten(0, (self.n_codes, -1))
        return (normalize(heads, dim=-1) / self.temperature).transpose(0, 1) @ values.transpose(1, 2)

    def loss(self, states: Tensor, items: Tensor) -> Tensor:
        """Mean cross-entropy of the codes of the next items (B,), given the states (B, D) before them."""
        return cross_entropy(self.logits(states).flatten(0, 1), self.codes[items].T.flatten().long())

    def tabulate(self, states: Tensor) -> Tensor:
        """States (B, D) → what each value of each code adds to an item's score, (K·V, B)."""
        chances = self.logits(states).log_softmax(-1) / self.n_codes
        return chances.transpose(1, 2).flatten(0, 1)

    def score(self, table: Tensor, first: int, last: int) -> Tensor:
        """Scores (B, last - first) of the items from `first` up to `last`, exclusive; see `tabulate` for `table`."""
        if can_add_up(table, self.codes):
            return add_up(table, self.codes[first:last])
        scores = table.new_empty(table.size(1), last - first)
        for top in range(0, len(scores), _STATES):
            columns = table[:, top : top + _STATES].contiguous()
            wide = pad(columns, (0, max(0, _NARROW - columns.size(1))))
            for left in range(0, last - first, _ITEMS):
                tokens = self._tokens(self.codes[first + left : min(first + left + _ITEMS, last)])
                summed = embedding_bag(tokens, wide, mode="sum").T.contiguous()  # copies far faster than a view
                scores[top : top + _STATES, left : left + _ITEMS] = summed[: columns.size(1)]
        return scores

    def score_one(self, states: Tensor, items: Tensor) -> Tensor:
        """Scores (B,) of one item for each state."""
        chances = self.logits(states).log_softmax(-1)
        return chances.gather(-1, self.codes[items].T.unsqueeze(-1).long()).squeeze(-1).mean(0)


def _check(codes: Tensor, n_values: int) -> None:
    if codes.dim() != 2 or codes.size(1) < 1:
        raise ValueError(f"semantic ids must be a table of items by codes, not of shape {tuple(codes.shape)}")
    low, high = codes.aminmax()
    if low < 0 or high >= n_values:
        raise ValueError(f"semantic ids must lie in [0, {n_values}), not in [{int(low)}, {int(high)}]")
