"""The next items for histories of users that the model has never seen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType, get_model
from torch import Tensor

from recbole_attn.catalogue import Catalogue
from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.data import load_dataset, split
from recbole_attn.errors import UserError
from recbole_attn.matching import check_dataset, check_model
from recbole_attn.model import MODELS
from recbole_attn.run import build_model
from recbole_attn.streaming import scores_of

_BATCH = 256


class Recommendation(NamedTuple):
    """An item by its original id, and the model's score of it."""

    item: str
    score: float


class Recommender:
    """A trained sequential model and its catalogue.

    Args:
        checkpoint: a `best.pth` or `last.pth`.
        device: where to compute, "cpu" or "cuda".
        data_path: folder that holds the data set's folder, which RecBole's models need; None for that of the training.

    Raises:
        UserError: not such a checkpoint, one of a model that scores users instead of histories, or one whose parameters
            do not fit the model that its settings describe.
    """

    def __init__(self, checkpoint, device: str = "cpu", data_path: str | None = None):
        state = load_checkpoint(checkpoint, map_location=device)
        self.config = state["config"]
        self.config["device"] = torch.device(device)
        if not ranks_histories(self.config):
            raise UserError(
                f"checkpoint {checkpoint}: {self.config['model']} does not rank all items by a history alone; "
                "recommend with another sequential model"
            )
        if data_path is not None:
            self.config["data_path"] = os.path.join(data_path, self.config["dataset"])
        self.catalogue, self.model = restore(state)

    def recommend(
        self, histories: Mapping[str, Sequence[str]], k: int, exclude_seen: bool = False
    ) -> dict[str, list[Recommendation]]:
        """The k best items for each history, best first.

        Items that the model does not know are skipped; their number is logged. A history without a known item gets
        no recommendation. Of a long history the last MAX_ITEM_LIST_LENGTH known items count.

        Args:
            histories: user → original item ids, oldest first.
            k: how many items; fewer come back where the catalogue, less what was seen, is smaller.
            exclude_seen: leave out every item of the history.

        Raises:
            UserError: k is less than 1.
        """
        if k < 1:
            raise UserError(f"k={k}: at least one item must be asked for; use --k=10")
        known = {user: self._numbers(items) for user, items in histories.items()}
        _report_unknown(histories, known)
        answers: dict[str, list[Recommendation]] = {user: [] for user in histories}
        users = [user for user in histories if known[user]]
        for start in range(0, len(users), _BATCH):
            batch = users[start : start + _BATCH]
            answers.update(zip(batch, self._rank([known[user] for user in batch], k, exclude_seen)))
        return answers

    def _numbers(self, items: Sequence[str]) -> list[int]:
        return [self.catalogue.number[item] for item in map(str, items) if item in self.catalogue.number]

    @torch.no_grad()
    def _rank(self, histories: list[list[int]], k: int, exclude_seen: bool) -> Iterator[list[Recommendation]]:
        hidden = _pairs(histories, self.config["device"]) if exclude_seen else None
        scores = scores_of(self.model, self._interaction(histories), len(self.catalogue.item_ids), None, hidden)
        best = scores.top_k(min(k, scores.n_items - 1))
        for values, items in zip(best.scores.tolist(), best.items.tolist()):
            yield [Recommendation(self.catalogue.item_ids[i], v) for v, i in zip(values, items) if v > -torch.inf]

    def _interaction(self, histories: list[list[int]]) -> Interaction:
        longest = self.config["MAX_ITEM_LIST_LENGTH"]
        recent = [items[-longest:] for items in histories]
        item_seq = torch.zeros(len(recent), longest, dtype=torch.long)
        for row, items in enumerate(recent):
            item_seq[row, : len(items)] = torch.tensor(items)
        fields = {
            self.catalogue.item_field + self.config["LIST_SUFFIX"]: item_seq,
            self.config["ITEM_LIST_LENGTH_FIELD"]: torch.tensor([len(items) for items in recent]),
        }
        return Interaction(fields).to(self.config["device"])


def ranks_histories(config) -> bool:
    """Can the model of a Config rank all items for histories of users it has never seen?

    Some of RecBole's sequential models ask for the user as well, and some score single items only.
    """
    ranking = get_model(config["model"]).full_sort_predict
    ranks = ranking is not AbstractRecommender.full_sort_predict and "USER_ID" not in ranking.__code__.co_names
    return ranks and config["MODEL_TYPE"] == ModelType.SEQUENTIAL


def restore(checkpoint: dict[str, Any]):
    """The catalogue and the model of a checkpoint that was read, ready to score on its config's device."""
    config = checkpoint["config"]
    item_field = config["ITEM_ID_FIELD"]
    if config["model"] in MODELS and "item_ids" in checkpoint:
        catalogue = Catalogue(item_field, checkpoint["item_ids"])
        model = build_model(config, catalogue)
    else:
        dataset = _training_data(config)
        check_dataset(checkpoint, dataset)
        catalogue = Catalogue(item_field, dataset.field2id_token[item_field])
        model = build_model(config, dataset)
    check_model(checkpoint, config, model)
    model.load_state_dict(checkpoint["state_dict"])
    model.load_other_parameter(checkpoint.get("other_parameter"))
    return catalogue, model.eval()


def recommend(
    checkpoint, histories: Mapping[str, Sequence[str]], k: int, exclude_seen: bool = False
) -> dict[str, list[Recommendation]]:
    """The k best items for each history; see `Recommender.recommend`. Loads the checkpoint each time."""
    return Recommender(checkpoint).recommend(histories, k, exclude_seen)


def read_histories(path) -> dict[str, list[str]]:
    """Lines `user <tab> items separated by blanks` → user → items.

    Raises:
        UserError: the file cannot be read or is empty, a line has no tab, or a user comes twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"predict={path}: cannot be read ({error}); give a text file of user<tab>items") from error
    histories: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        user, tab, items = line.partition("\t")
        if not tab or user in histories:
            what = f"user {user} comes twice" if tab else "no tab between user and items"
            raise UserError(f"{path}, line {number}: {what}; each line is user<tab>items separated by blanks")
        histories[user] = items.split()
    if not histories:
        raise UserError(f"predict={path}: holds no history; each line is user<tab>items separated by blanks")
    return histories


def _pairs(histories: list[list[int]], device) -> tuple[Tensor, Tensor]:
    """Numbers of the histories and of the items in them, one pair for each item."""
    rows = [row for row, items in enumerate(histories) for _ in items]
    return torch.tensor(rows, device=device), torch.tensor([i for items in histories for i in items], device=device)


def _report_unknown(histories: Mapping[str, Sequence[str]], known: Mapping[str, Sequence[int]]) -> None:
    unknown = sum(len(histories[user]) - len(known[user]) for user in histories)
    empty = sum(not items for items in known.values())
    if unknown or empty:
        total = sum(map(len, histories.values()))
        getLogger().warning(
            f"{unknown} of {total} items are unknown to the model and were skipped; "
            f"{empty} of {len(histories)} histories hold no known item and get no recommendation"
        )


def _training_data(config):
    """The data set of a checkpoint that does not bring its catalogue along, or whose model asks for more than that."""
    return split(config, load_dataset(config))[0].dataset
