"""Models learn what is there, and nothing where nothing is."""

import numpy as np
import pytest
import torch
from recbole.utils import init_seed
from runs import SMALL, write_chains

from recbole_attn.config.settings import load_settings
from recbole_attn.data import load_dataset, split
from recbole_attn.model import MODELS
from recbole_attn.run import build_model
from recbole_attn.trainer import AttnTrainer

EVERY_MODEL = [*MODELS, "SASRec"]
QUICK = {"learning_rate": 0.01, "epochs": 12}
CLOZE = {"hidden_size": 32, "inner_size": 32, "learning_rate": 0.005, "epochs": 20}  # learned later
STILL = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
# One negative a target teaches less.
PAIRWISE = {**STILL, "hidden_size": 32, "n_layers": 1, "learning_rate": 0.01, "epochs": 40}
CODES = {"quantizer": "random", "n_codes": 4, "code_bits": 4}  # 30 items are too few for another quantiser
CODED = {**QUICK, **CODES}
SETTINGS = {
    "AttnBERT4Rec": CLOZE,
    "ACBERT4Rec": CLOZE,
    "STOSA": PAIRWISE,
    "AWRSTOSA": PAIRWISE,
    "RPG": CODED,
    "FAIR": CODED,
}


def prepare(model, folder, **settings):
    """A trainer, and the training and test data."""
    values = {**SMALL, "checkpoint_dir": str(folder / "saved"), "metrics": ["Recall"], "valid_metric": "Recall@1"}
    config = load_settings(model, config_dict={**values, **settings}).config
    train_data, _, test_data = split(config, load_dataset(config))
    init_seed(7, reproducibility=True)  # NumPy's generator too, which draws negative items
    return AttnTrainer(config, build_model(config, train_data.dataset)), train_data, test_data


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_a_planted_rule_is_learned(model, tmp_path):
    write_chains(tmp_path, users=200, items=30)
    settings = SETTINGS.get(model, QUICK)
    trainer, train_data, test_data = prepare(model, tmp_path, dataset="chains", data_path=str(tmp_path), **settings)
    trainer.fit(train_data, saved=False)
    assert trainer.evaluate(test_data, load_best_model=False)["recall@1"] > 0.95


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_shuffled_targets_teach_no_more_than_popularity(model, tmp_path):
    """ml-100k with the targets of each batch permuted: what is left to learn is how often an item is a target.

    In a cloze every item of a history is a target.
    """
    settings = {"dataset": "ml-100k", "train_batch_size": 1024, "learning_rate": 0.003, "n_layers": 1, "epochs": 2}
    codes = {**CODES, "code_bits": 8} if model in ("RPG", "FAIR") else {}
    trainer, train_data, test_data = prepare(model, tmp_path, **settings, **codes)
    item = trainer.config["ITEM_ID_FIELD"]
    honest_loss = trainer.model.calculate_loss

    def shuffled_loss(interaction):
        for name in (item, f"{item}_list") if "BERT" in model else (item,):
            values = interaction[name]
            values[values > 0] = values[values > 0][torch.randperm(int((values > 0).sum()))]
        return honest_loss(interaction)

    trainer.model.calculate_loss = shuffled_loss
    trainer.fit(train_data, saved=False)
    learned = trainer.evaluate(test_data, load_best_model=False)["recall@10"]
    targets = test_data.dataset.inter_feat[item].numpy()
    counts = np.bincount(train_data.dataset.inter_feat[item].numpy(), minlength=trainer.model.n_items)
    popular = np.isin(targets, np.argsort(-counts)[:10]).mean()
    assert learned <= popular + 2 * np.sqrt(popular * (1 - popular) / len(targets))
