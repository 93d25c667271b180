"""The data set of a run and its three loaders."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from logging import getLogger
from pathlib import Path

import recbole.data.dataset as stock
from recbole.data import data_preparation
from recbole.data.dataloader import TrainDataLoader
from recbole.utils import ModelType
from recbole.utils.argument_list import dataset_arguments

from recbole_attn.data.buckets import BucketSampler, bucket_of, checked_buckets
from recbole_attn.data.order import TimeOrder
from recbole_attn.data.prefixes import OrderedDataset, PrefixDataset
from recbole_attn.data.splits import Splits
from recbole_attn.data.windows import WindowLoader
from recbole_attn.errors import UserError

_NOWHERE = os.path.join(os.devnull, "none")  # cannot exist
_UNKNOWN_TO_RECBOLE = ("model", "time_order", "trim")  # of what saved data depend on, next to what RecBole compares


class OrderedDIENDataset(OrderedDataset, stock.DIENDataset):
    """RecBole's DIEN data in the order of `time_order`."""


class OrderedDecisionTreeDataset(OrderedDataset, stock.DecisionTreeDataset):
    """RecBole's decision tree data in the order of `time_order`."""


class OrderedKnowledgeDataset(TimeOrder, Splits, stock.KnowledgeBasedDataset):
    """RecBole's knowledge graph data in the order of `time_order`."""


class OrderedGRU4RecKGDataset(TimeOrder, Splits, stock.GRU4RecKGDataset):
    """RecBole's GRU4RecKG data in the order of `time_order`."""


class OrderedKSRDataset(TimeOrder, Splits, stock.KSRDataset):
    """RecBole's KSR data in the order of `time_order`."""


_OURS = {
    stock.Dataset: OrderedDataset,
    stock.SequentialDataset: PrefixDataset,
    stock.DIENDataset: OrderedDIENDataset,
    stock.DecisionTreeDataset: OrderedDecisionTreeDataset,
    stock.KnowledgeBasedDataset: OrderedKnowledgeDataset,
    stock.GRU4RecKGDataset: OrderedGRU4RecKGDataset,
    stock.KSRDataset: OrderedKSRDataset,
}
_BY_TYPE = {
    ModelType.SEQUENTIAL: stock.SequentialDataset,
    ModelType.KNOWLEDGE: stock.KnowledgeBasedDataset,
    ModelType.DECISIONTREE: stock.DecisionTreeDataset,
}


def load_dataset(config) -> stock.Dataset:
    """Read and filter the data of `config["dataset"]` into the class that its model needs.

    A saved data set is read only where `dataset_save_path` asks for it; RecBole also picks up what lies about.

    Raises:
        UserError: a mistake in files, columns, filters or order; a `dataset_save_path` that holds no data set.
    """
    if config["dataset_save_path"]:
        saved = _load_saved(Path(config["dataset_save_path"]))
        if _fits("data set", saved, config, (*dataset_arguments, "seed", *_UNKNOWN_TO_RECBOLE)):
            saved.config = config  # the saved one holds the split and batch sizes of its own run
            return saved
    dataset = dataset_class(config)(config)
    if config["save_dataset"]:
        dataset.save()
    return dataset


def dataset_class(config) -> type[stock.Dataset]:
    """The class for a model: RecBole's choice, or what we have instead of it."""
    plain = _BY_TYPE.get(config["MODEL_TYPE"], stock.Dataset)
    chosen = getattr(stock, f"{config['model']}Dataset", plain)
    return _OURS.get(chosen, chosen)


def _fits(what: str, saved: stock.Dataset, config, names: Iterable[str]) -> bool:
    """Was a saved data set made under these settings? If not, say so."""
    changed = [name for name in names if config[name] != saved.config[name]]
    if changed:
        getLogger().warning(f"the saved {what} differs in {', '.join(changed)} and is made anew")
    return not changed


def _load_saved(path: Path) -> stock.Dataset:
    try:
        with path.open("rb") as file:
            saved = pickle.load(file)
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ImportError) as error:
        raise UserError(f"dataset_save_path={path}: cannot be read as a saved data set ({error})") from error
    if not isinstance(saved, stock.Dataset):
        raise UserError(f"dataset_save_path={path}: holds a {type(saved).__name__}, not a data set")
    return saved


def split(config, dataset) -> tuple:
    """RecBole's loaders for training, validation and test.

    Saved loaders are read only where `dataloaders_save_path` asks for them.

    Raises:
        UserError: no rows to train on, no file to read, or `length_buckets` that cannot be used.
    """
    asked = config["dataloaders_save_path"]
    if asked and not Path(asked).is_file():
        raise UserError(f"dataloaders_save_path={asked}: there is no such file")
    train, valid, test = _prepared(config, dataset, asked or _NOWHERE)
    if asked and not _fits("split", train.dataset, config, _UNKNOWN_TO_RECBOLE):
        train, valid, test = _prepared(config, load_dataset(config), _NOWHERE)  # RecBole has spoilt `dataset` for this
    if config["training"] == "sequence":
        return WindowLoader(config, train.dataset, train._sampler, shuffle=config["shuffle"]), valid, test
    if config["length_buckets"] is not None and isinstance(train.dataset, stock.SequentialDataset):
        train = BucketLoader(config, train.dataset, train._sampler, shuffle=config["shuffle"])
    return train, valid, test


def _prepared(config, dataset, saved: str) -> tuple:
    """RecBole's loaders, read from the file `saved` where there is one that fits in what RecBole compares."""
    asked, config["dataloaders_save_path"] = config["dataloaders_save_path"], saved
    try:
        return data_preparation(config, dataset)
    finally:
        config["dataloaders_save_path"] = asked


class BucketLoader(TrainDataLoader):
    """RecBole's training loader with batches of about equally long histories.

    Raises:
        UserError: see `checked_buckets`.
    """

    def __init__(self, config, dataset, sampler, shuffle=True):
        buckets = checked_buckets(config, shuffle)
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        lengths = dataset.inter_feat[dataset.item_list_length_field]
        self.batch_sampler.sampler = BucketSampler(self, bucket_of(lengths.numpy(), buckets))
