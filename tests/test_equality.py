"""AttnSASRec is RecBole's SASRec in training too: same rows, same order, same losses, same metrics.

`make equality DATA=../shared/data` asks the same of Amazon Beauty: batches of 2048, histories of 50.
"""

import os
from pathlib import Path

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed
from runs import SMALL, write_chains
from test_models import copy_from_recbole

from recbole_attn import protocol
from recbole_attn.config.settings import load_settings
from recbole_attn.progress import WatchedTrainer
from recbole_attn.run import make_trainer

STEPS = 20
REAL = {"hidden_size": 64, "inner_size": 256, "MAX_ITEM_LIST_LENGTH": 50, "train_batch_size": 2048}
DATA = os.environ.get("EQUALITY_DATA")


@pytest.fixture(
    params=["chains", pytest.param("amazon-beauty", marks=pytest.mark.skipif(not DATA, reason="make equality"))]
)
def settings(request, tmp_path):
    """Where the data are, what they are called, and the sizes."""
    none = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "train_neg_sample_args": None}
    sizes = {"n_layers": 2, "n_heads": 2, "inner_size": 32, "layer_norm_eps": 1e-12, "metric_decimal_place": 12}
    places = {"data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved")}
    found = {**SMALL, **none, **sizes, **places, "dataset": request.param}
    if request.param == "chains":
        write_chains(tmp_path, users=240, items=60)
        return found
    return {**found, **REAL, "data_path": str(Path(DATA).resolve()), "eval_batch_size": 4096}


def configure(settings, model):
    return load_settings(model, settings["dataset"], config_dict=settings).config


def recboles(settings):
    """RecBole's own data set, loaders, model and trainer."""
    config = configure(settings, "SASRec")
    init_seed(config["seed"], True)
    train, _, test = data_preparation(config, create_dataset(config))
    return Trainer(config, get_model("SASRec")(config, train.dataset)), train, test


def ours(settings, theirs):
    config = configure(settings, "AttnSASRec")
    init_seed(config["seed"], True)
    train, _, test = protocol.loaders(config, protocol.load(config))
    trainer = make_trainer(config, train.dataset)
    copy_from_recbole(trainer.model, theirs)
    return trainer, train, test


def losses_of_an_epoch(trainer, train):
    losses, loss = [], trainer.model.calculate_loss

    def noted(interaction):
        losses.append(loss(interaction))
        return losses[-1]

    trainer.model.calculate_loss = noted
    kind = WatchedTrainer if isinstance(trainer, WatchedTrainer) else Trainer
    kind._train_epoch(trainer, train, 0)
    return torch.stack(losses).detach()


def test_the_losses_of_the_first_steps_agree_with_recboles(settings):
    theirs, *their_data = recboles(settings)
    mine, *my_data = ours(settings, theirs.model)
    expected, found = losses_of_an_epoch(theirs, their_data[0]), losses_of_an_epoch(mine, my_data[0])
    assert len(found) == len(expected) >= STEPS
    torch.testing.assert_close(found[:STEPS], expected[:STEPS], rtol=0, atol=1e-5)
    assert expected[0] - expected[-1] > 0.05  # something was learned


def test_after_an_epoch_in_float64_the_metrics_are_recboles(settings):
    theirs, *their_data = recboles(settings)
    mine, *my_data = ours(settings, theirs.model)
    theirs.model.double(), mine.model.double()
    torch.testing.assert_close(
        losses_of_an_epoch(mine, my_data[0]), losses_of_an_epoch(theirs, their_data[0]), rtol=0, atol=1e-10
    )
    pairs = ((theirs, their_data), (mine, my_data))
    expected, found = (dict(trainer.evaluate(data[1], load_best_model=False)) for trainer, data in pairs)
    assert found == expected
    assert 0 < found["ndcg@10"] < 1
