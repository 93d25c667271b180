"""General models under the protocol of sequential ones: the same targets, the same candidates, the same batches.

RecBole splits their data with each user's first interaction among the possible targets, gives one row to a user with
several targets, and counts evaluation batches in users × items. What cannot be removed is said by `remaining`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.interaction import Interaction
from recbole.utils import EvaluatorType, ModelType

from recbole_attn.data import load_dataset, split
from recbole_attn.data.prefixes import OrderedDataset
from recbole_attn.errors import UserError

REMAINING = (
    "no histories are read: of each user only the training part is known, never the validation item as input",
    "each user's first interaction is learned as a target, which sequential models see as input only",
)
COUNTED = "it counts interactions here; as released, RecBole's Pop counts batches that hold an item, negatives included"
NEGATIVES = "negatives, if it uses any, are drawn from all items but the target, those of the history included"


class AlignedDataset(OrderedDataset):
    """Data of a general model. Splits see what sequential models can predict: all but each user's first interaction.

    The first interactions are training data, save those that happened after the first test interaction of a split
    along time.
    """

    def leave_one_out(self, group_by, leave_one_mode):
        return self._align(super().leave_one_out, group_by, leave_one_mode, along_time=False)

    def split_by_ratio(self, ratios, group_by=None):
        return self._align(super().split_by_ratio, ratios, group_by, along_time=group_by is None)

    def time_based_split(self, ratios, group_by):
        return self._align(super().time_based_split, ratios, group_by, along_time=True)

    def _align(self, split, *arguments, along_time: bool):
        whole = self.inter_feat
        first = first_of_each(whole[self.uid_field].numpy())
        self.inter_feat = whole[~first]
        parts = split(*arguments)
        known = whole[first]
        if along_time and len(parts[2]):
            known = known[known[self.time_field] < parts[2].inter_feat[self.time_field].min()]
        learned = parts[0].inter_feat
        columns = {name: torch.cat([known[name], learned[name]]) for name in learned.columns}
        parts[0].inter_feat = Interaction(columns)
        return parts


def first_of_each(users: np.ndarray) -> torch.Tensor:
    """(rows,) bool: is this the first row of its user?"""
    first = np.zeros(len(users), dtype=bool)
    first[np.unique(users, return_index=True)[1]] = True
    return torch.from_numpy(first)


class TargetLoader(FullSortEvalDataLoader):
    """One row per (user, target), every item a candidate, batches counted in rows: as for sequential models."""

    def __init__(self, config, dataset, sampler):
        self.rows = len(dataset)
        super().__init__(config, dataset, sampler)
        self.is_sequential = False

    def _init_batch_size_and_step(self):
        self.sample_size = self.rows
        self.step = self.config["eval_batch_size"]
        self.set_batch_size(self.step)

    def collate_fn(self, index):
        rows = self._dataset[np.array(index)]
        return rows, None, torch.arange(len(rows)), rows[self.iid_field]


def mend(config, model) -> None:
    """Have RecBole's Pop count interactions: it counts batches that hold an item, sampled negatives included."""
    if config["model"] == "Pop":
        model.calculate_loss = functools.partial(_count, model, config["LABEL_FIELD"])


def _count(model, label: str, interaction):
    items = interaction[model.ITEM_ID]
    if label in interaction:
        items = items[interaction[label] > 0]
    model.item_cnt += torch.bincount(items, minlength=model.n_items).unsqueeze(1)
    model.max_cnt = model.item_cnt.max(dim=0).values
    return model.fake_loss.sum()


def is_general(config) -> bool:
    return config["MODEL_TYPE"] in (ModelType.GENERAL, ModelType.TRADITIONAL)


def load(config):
    """The data set of a run.

    Raises:
        UserError: what `load_dataset` raises.
    """
    dataset = load_dataset(config)
    if is_general(config):
        dataset.__class__ = AlignedDataset  # which differs in its splits alone, so a saved data set can become one
    return dataset


def loaders(config, dataset) -> tuple:
    """Its loaders for training, validation and test.

    Raises:
        UserError: nothing to test on; longer lists than there are items; a split along time of data without times.
    """
    if config["eval_type"] == EvaluatorType.RANKING and max(config["topk"]) > dataset.item_num - 1:
        raise UserError(f"topk = {config['topk']}: there are only {dataset.item_num - 1} items to rank")
    if splits_along_time(config["eval_args"]):
        _require_times(config, dataset)
    train, valid, test = split(config, dataset)
    if not len(test.dataset):
        raise UserError(f"eval_args.split={config['eval_args']['split']}: leaves no rows to test on")
    return train, _by_target(config, "valid", valid), _by_target(config, "test", test)


def splits_along_time(eval_args: Mapping[str, Any]) -> bool:
    """Do the settings cut the log at moments: TS, or ratios of all users' interactions together?"""
    together = "RS" in eval_args["split"] and eval_args["group_by"] != "user" and eval_args["order"] == "TO"
    return together or "TS" in eval_args["split"]


def _require_times(config, dataset) -> None:
    """Positions tell the order within a history, not which of two users' interactions came first."""
    fields = (dataset.uid_field, dataset.time_field)
    if config["time_order"] == "file" or are_positions(*(np.asarray(dataset.inter_feat[field]) for field in fields)):
        asked = config["eval_args"]
        way, remedy = ("split", "use LS or RS") if "TS" in asked["split"] else ("group_by", "use group_by=user")
        raise UserError(
            f"eval_args.{way}={asked[way]}: cuts along time, and the timestamps of {dataset.dataset_name} are mere "
            f"positions; {remedy}"
        )


def are_positions(users: np.ndarray, times: np.ndarray) -> bool:
    """Do the times count the rows, or those of each user? Filters may have taken rows out since they were counted.

    Then the times go up by one, no two are equal and users come one after another in them, or most users begin at one
    and the same time.
    """
    if (np.diff(np.sort(times)) == 1).all():
        return True
    first = pd.Series(times).groupby(users).min()
    in_time = users[np.argsort(times, kind="stable")]
    all_differ = len(np.unique(times)) == len(times)
    one_after_another = all_differ and len(first) > 2 and 1 + (np.diff(in_time) != 0).sum() == len(first)
    return bool(one_after_another or (len(first) > 1 and first.value_counts().iloc[0] > len(first) / 2))


def _by_target(config, phase: str, loader):
    if not is_general(config) or config["eval_args"]["mode"][phase] != "full" or not len(loader.dataset):
        return loader
    return TargetLoader(config, loader.dataset, loader._sampler)


def remaining(config) -> list[str]:
    """What still sets this model apart from a sequential one."""
    if not is_general(config):
        return []
    if config["MODEL_TYPE"] == ModelType.TRADITIONAL:
        return [*REMAINING, *([COUNTED] if config["model"] == "Pop" else [])]
    drawn = (config["train_neg_sample_args"] or {}).get("distribution") not in (None, "none")
    return [*REMAINING, *([NEGATIVES] if drawn else [])]
