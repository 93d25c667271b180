"""Full ranking without a matrix of users × items: RecBole's evaluation over `ranking.Scores`.

RecBole scores all items for a batch of users, keeps as many integers beside them, and takes from both the record
"rec.topk" that its metrics are made of. Here the record is made from the best items of the tiles. RecBole's loop
around it, its Evaluator and its metrics stay as they are.
"""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from recbole.evaluator.register import metric_information
from recbole.trainer import Trainer
from torch import Tensor

from recbole_attn.ranking import Scores, columns

SUFFICIENT = {"rec.topk", "rec.items"}  # what can be told from the best items alone

_TOGETHER = 512  # histories that a processor encodes at one time


def need_all_scores(metrics: list[str]) -> list[str]:
    """Those of RecBole's metrics that the best items do not suffice for."""
    return [metric for metric in metrics if not SUFFICIENT.issuperset(metric_information[metric.lower()])]


class StreamingCollector(Collector):
    """RecBole's collector, which takes `Scores` as well as a matrix, and makes none of its own if the best items do."""

    def __init__(self, config):
        super().__init__(config)
        self._best_suffice = not need_all_scores(config["metrics"])

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        if not self._best_suffice:
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        items = _best_items(scores_tensor, max(self.topk))
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", items)
        if self.register.need("rec.topk"):
            targets = positive_u.to(items.device), positive_i.to(items.device)
            self.data_struct.update_tensor("rec.topk", record(items, *targets, as_scores(scores_tensor).n_items))


class TieCollector(StreamingCollector):
    """The collector of one evaluation, which also counts the targets that have the score of another item."""

    def __init__(self, config):
        super().__init__(config)
        self._tied = self._targets = 0
        self._uncounted = False

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if positive_i is None or len(positive_i) != len(scores_tensor):  # labels, or rows of several targets
            self._uncounted = True
        else:
            scores = as_scores(scores_tensor)
            equal = scores.compare(scores.of(positive_i.to(scores.state.device))).equal
            self._tied += int((equal > 1).sum())
            self._targets += len(equal)

    @property
    def tie_share(self) -> float | None:
        """Share of targets whose rank is partly a matter of chance; None unless each has a row of scores of its own."""
        return None if self._uncounted or not self._targets else self._tied / self._targets


def _best_items(scores: Scores | Tensor, k: int) -> Tensor:
    """The k best items of each user, (B, k); of a matrix in RecBole's order, ties included."""
    return scores.topk(k, dim=-1).indices if isinstance(scores, Tensor) else scores.top_k(k).items


def as_scores(scores: Scores | Tensor) -> Scores:
    """What a collector is given, a matrix (B, N) or `Scores`, as `Scores`."""
    return scores if isinstance(scores, Scores) else Scores.of_matrix(scores)


def record(items: Tensor, users: Tensor, targets: Tensor, n_items: int) -> Tensor:
    """RecBole's "rec.topk" (B, k + 1): is the item at this place a target, and how many targets there are.

    Args:
        items: (B, k) the best items.
        users, targets: (M,) the row of each target, and its item.
    """
    pairs = torch.unique(users * n_items + targets)
    rows = torch.arange(len(items), device=items.device)[:, None]
    listed = torch.isin(rows * n_items + items, pairs)
    amount = torch.bincount(pairs.div(n_items, rounding_mode="floor"), minlength=len(items))
    return torch.cat([listed, amount[:, None]], dim=1).int()


class StreamingTrainer(Trainer):
    """Ranks all items in chunks for models that offer `user_state` and `score_items`, as RecBole for the others."""

    def __init__(self, config, model):
        super().__init__(config, model)
        self.eval_collector = StreamingCollector(config)

    def _full_sort_batch_eval(self, batched_data):
        if not self._streams():
            return super()._full_sort_batch_eval(batched_data)
        interaction, history, positive_u, positive_i = batched_data
        state = states_of(self.model, interaction.to(self.device), trim=self.config["trim"] is not False)
        scores = Scores(self.model.score_items, state, self.tot_item_num, self.config["item_chunk"], history)
        return interaction, scores, positive_u, positive_i

    def _streams(self) -> bool:
        return scores_ranges(self.model) and not need_all_scores(self.config["metrics"])


def scores_ranges(model) -> bool:
    """Does a model offer the scores of a range of items, as `Backbone` describes it?"""
    return hasattr(model, "user_state") and hasattr(model, "score_items")


def scores_of(model, interaction, n_items: int, chunk: int | None, hidden: tuple[Tensor, Tensor] | None) -> Scores:
    """What a model makes of a batch, to be ranked: in chunks, or at once where it offers no ranges.

    Args:
        n_items: padding included.
        chunk, hidden: as for `ranking.Scores`.
    """
    if scores_ranges(model):
        return Scores(model.score_items, states_of(model, interaction), n_items, chunk, hidden)
    whole = model.full_sort_predict(interaction).view(-1, n_items)
    return Scores(columns, whole, n_items, chunk, hidden)


def states_of(model, interaction, trim: bool = True) -> Tensor:
    """The `user_state` of a batch; if `trim`, encoded in groups of like length, so that little of it is padding."""
    if not trim:
        return model.user_state(interaction)
    order = interaction[model.ITEM_SEQ_LEN].argsort(stable=True)
    states: Tensor | None = None
    for rows in order.split(_TOGETHER if order.device.type == "cpu" else len(order)):
        group = interaction[rows]
        group.update(Interaction({model.ITEM_SEQ: group[model.ITEM_SEQ][:, : int(group[model.ITEM_SEQ_LEN].max())]}))
        state = model.user_state(group)
        states = state.new_empty(len(order), *state.shape[1:]) if states is None else states
        states[rows] = state
    assert states is not None
    return states
