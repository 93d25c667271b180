"""One row per (user, target): its rank and metrics, taken from the evaluation pass of RecBole itself."""

from __future__ import annotations

import io
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.evaluator import Evaluator

from recbole_attn.errors import UserError
from recbole_attn.ranking import Scores
from recbole_attn.streaming import StreamingCollector, as_scores


class Ranks(NamedTuple):
    """Equally long columns, a row per (user, target), in the order of the test set.

    Attributes:
        user, target: original ids.
        rank: 1 for the best; the place in RecBole's top k, and beyond it 1 + the number of items scored higher.
        tied: how many other items have the score of the target.
        history: how many earlier interactions the user has.
        popularity: how many interactions the target has in the training part.
        metrics: name -> value of the row, such as ndcg@10.
    """

    user: np.ndarray
    target: np.ndarray
    rank: np.ndarray
    tied: np.ndarray
    history: np.ndarray
    popularity: np.ndarray
    metrics: dict[str, np.ndarray]

    @property
    def tie_share(self) -> float:
        """Share of rows whose rank is a matter of chance."""
        return float((self.tied > 0).mean())

    def to_bytes(self) -> bytes:
        """As an .npz file."""
        columns = {**self._asdict(), **{f"metric {name}": column for name, column in self.metrics.items()}}
        del columns["metrics"]
        file = io.BytesIO()
        np.savez_compressed(file, **columns)
        return file.getvalue()

    @classmethod
    def from_file(cls, path) -> Ranks:
        with np.load(path) as columns:
            metrics = {name.split(" ", 1)[1]: columns[name] for name in columns.files if name.startswith("metric ")}
            return cls(**{name: columns[name] for name in cls._fields[:-1]}, metrics=metrics)


class RankCollector(StreamingCollector):
    """The collector of one evaluation, which also notes the place of every target.

    Raises:
        UserError: a row of scores with several targets.

    Attributes:
        seconds: time spent on noting.
    """

    def __init__(self, config):
        super().__init__(config)
        self.seconds = 0.0
        self._target: list[torch.Tensor] = []
        self._rank: list[torch.Tensor] = []
        self._tied: list[torch.Tensor] = []
        self._places: list[torch.Tensor] = []

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        start = perf_counter()
        if len(positive_i) != len(scores_tensor):
            raise UserError("sampled candidates and several targets of one user: use eval_args.mode=full or split LS")
        places = self.data_struct.get("rec.topk")[-len(scores_tensor) :]
        self._note(as_scores(scores_tensor), positive_i.to(places.device), places)
        self.seconds += perf_counter() - start

    def _note(self, scores: Scores, target, places) -> None:
        higher, equal = scores.compare(scores.of(target))
        listed = places[:, :-1].bool()
        beyond = higher + 1
        # A target that ties with the end of the list but is not in it comes after the list.
        beyond = beyond.clamp(min=listed.shape[1] + 1) if listed.shape[1] < scores.n_items else beyond
        rank = torch.where(listed.any(1), listed.int().argmax(1) + 1, beyond)
        self._target.append(target.cpu())
        self._rank.append(rank.cpu())
        self._tied.append((equal - 1).cpu())
        self._places.append(places.cpu())

    def ranks(self, loader, context: Context) -> Ranks:
        """The rows of `loader`, which was evaluated once."""
        dataset = loader.dataset
        users = np.asarray(users_of(loader))
        target = torch.cat(self._target).numpy()
        return Ranks(
            user=dataset.id2token(dataset.uid_field, users).astype(str),
            target=dataset.id2token(dataset.iid_field, target).astype(str),
            rank=torch.cat(self._rank).numpy().astype(np.int32),
            tied=torch.cat(self._tied).numpy().astype(np.int32),
            history=context.history(users),
            popularity=context.popularity[target],
            metrics=row_metrics(self.config, torch.cat(self._places)),
        )


def users_of(loader):
    """The user of each row that a RecBole evaluation loader makes."""
    sampled = getattr(loader, "uid_list", None) if hasattr(loader, "uid2index") else None
    return loader.dataset.inter_feat[loader.dataset.uid_field].numpy() if sampled is None else sampled


def row_metrics(config, places: torch.Tensor) -> dict[str, np.ndarray]:
    """The metrics of every row, by the arithmetic of RecBole's own classes.

    Args:
        places: (rows, k + 1) RecBole's "rec.topk": is the item at this place a target, and the number of targets.
    """
    struct = DataStruct()
    struct.set("rec.topk", places)
    found: dict[str, np.ndarray] = {}
    for metric in Evaluator(config).metric_class.values():
        if isinstance(metric, TopkMetric) and metric.metric_need == ["rec.topk"]:
            metric.topk_result = lambda name, value: {f"{name}@{k}": value[:, k - 1] for k in config["topk"]}
            found.update(metric.calculate_metric(struct))
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


class Context:
    """What the data says of users and items, noted before it is split."""

    def __init__(self, dataset):
        self._users = np.bincount(np.asarray(dataset.inter_feat[dataset.uid_field]), minlength=dataset.user_num)
        self._items = np.bincount(np.asarray(dataset.inter_feat[dataset.iid_field]), minlength=dataset.item_num)
        self.popularity = self._items

    def hold_out(self, *parts) -> None:
        """Count the items of these parts of the data out of the popularity."""
        for part in parts:
            items = part.inter_feat[part.iid_field].numpy()
            self.popularity = self.popularity - np.bincount(items, minlength=len(self._items))

    def history(self, users: np.ndarray) -> np.ndarray:
        """How many interactions came before each row; the rows of a user are his last ones, in order of time."""
        rows = pd.Series(users).groupby(users).cumcount(ascending=False).to_numpy() + 1
        return (self._users[users] - rows).astype(np.int32)
