"""One run: settings → data → model → trainer → result."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable
from datetime import datetime
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

from recbole.utils import get_model, get_trainer, init_logger, init_seed

from recbole_attn import acceleration, protocol
from recbole_attn.catalogue import Catalogue
from recbole_attn.errors import UserError
from recbole_attn.memory import keep_freed_memory
from recbole_attn.model import MODELS
from recbole_attn.progress import Epoch
from recbole_attn.streaming import TieCollector
from recbole_attn.trainer import with_checkpoints


class Result(NamedTuple):
    """What a run found. Metrics are RecBole's, rounded as `metric_decimal_place` says; epochs count from 0.

    `tie_share` is the share of test targets that have the score of another item; None where it was not counted.
    """

    model: str
    dataset: str
    test: dict[str, float]
    tie_share: float | None
    valid: dict[str, float]
    best_epoch: int
    epochs: int
    stop_reason: str
    seconds_per_epoch: float
    parameters: int
    checkpoint: str
    history: list[Epoch]


def run(config, resume: str | None = None) -> Result:
    """Train the model of a RecBole Config to early stopping or its last epoch, and test the best epoch.

    Args:
        config: from `recbole_attn.config.settings.load_settings`; its `checkpoint_dir` gets one folder a run.
        resume: the `last.pth` of a run to continue, in its own folder.

    Raises:
        UserError: a mistake in data, settings or checkpoint; several processes; a diverged loss; Ctrl-C.
    """
    if (config["nproc"] or 1) != 1:
        raise UserError(f"nproc = {config['nproc']}: works in comparisons alone; add --seeds=1, or leave nproc at 1")
    check_model_settings(config)
    config["checkpoint_dir"] = str(Path(resume).parent if resume else new_folder(config))
    begin(config)
    train_data, valid_data, test_data = protocol.loaders(config, load(config))
    trainer = make_trainer(config, train_data.dataset, resume)
    trainer.fit(train_data, valid_data, show_progress=config["show_progress"])
    ties = trainer.eval_collector = TieCollector(config)
    test = trainer.evaluate(test_data, show_progress=config["show_progress"])
    return result_of(config, trainer, test, ties.tie_share)


def check_model_settings(config) -> None:
    """Find what the device, or one of our models, refuses before any data is read.

    Raises:
        UserError: a setting outside its range, two that contradict each other, or one that the device cannot honour.
    """
    acceleration.check(config)
    build_on_two_items(config)


def build_on_two_items(config) -> None:
    """Build one of our models, to find what its constructor refuses.

    Raises:
        UserError: see `build_model`.
    """
    if config["model"] in MODELS:
        build_model(config, Catalogue(config["ITEM_ID_FIELD"], ["[PAD]", "one", "two"]))


def begin(config) -> None:
    """Ready this process for the run of `config`: memory, random generators, log."""
    keep_freed_memory()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")  # none that a user could mend
    init_seed(config["seed"], config["reproducibility"])
    # RecBole makes the folder of its logs only where none was seen a moment before: two processes at once may fail.
    Path("log", config["model"]).mkdir(parents=True, exist_ok=True)
    init_logger(config)


def load(config):
    """The data set of the run. Settings are logged after it, where they cannot hide a mistake in the data.

    Raises:
        UserError: a mistake in files, columns, filters or order.
    """
    dataset = protocol.load(config)
    getLogger().info(config)
    getLogger().info(dataset)
    return dataset


def make_trainer(config, dataset, resume: str | None = None, extend: Callable[[type], type] = with_checkpoints):
    """The model of `config`, built on its training data, in a trainer that has taken up the run `resume`.

    `extend` makes of RecBole's trainer class the one that is used.
    """
    init_seed(config["seed"], config["reproducibility"])
    model = build_model(config, dataset)
    protocol.mend(config, model)
    acceleration.accelerate(config, model)
    getLogger().info(model)
    trainer = extend(get_trainer(config["MODEL_TYPE"], config["model"]))(config, model)
    if resume:
        trainer.resume_checkpoint(resume)
    return trainer


def build_model(config, dataset):
    """The model of a Config, on its device.

    Raises:
        UserError: a setting that the model's constructor refuses.
    """
    try:
        return get_model(config["model"])(config, dataset).to(config["device"])
    except ValueError as error:
        raise UserError(f"{config['model']}: {error}") from error


def new_folder(config) -> Path:
    """A folder of this run's own; RecBole's file names would collide within a second."""
    name = f"{config['model']}-{config['dataset']}-{datetime.now():%b-%d-%Y_%H-%M-%S}-{os.getpid()}"
    folder = Path(config["checkpoint_dir"]) / name
    others = itertools.count(2)
    while folder.exists():  # an earlier run of this process, within the same second
        folder = folder.with_name(f"{name}-{next(others)}")
    return folder


def result_of(config, trainer, test: dict[str, Any], tie_share: float | None) -> Result:
    """What a trainer that has run to its end found, with the metrics of its test."""
    trained = [epoch.train_seconds for epoch in trainer.history]
    return Result(
        model=config["model"],
        dataset=config["dataset"],
        test=dict(test or {}),
        tie_share=tie_share,
        valid=dict(trainer.best_valid_result or {}),
        best_epoch=trainer.best_epoch,
        epochs=trainer.start_epoch,
        stop_reason=trainer.stop_reason,
        seconds_per_epoch=sum(trained) / len(trained),
        parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        checkpoint=trainer.saved_model_file,
        history=trainer.history,
    )
