"""RecBole's own entry points know our models, and its own models stay as they were."""

import sys

import pytest
import recbole.data.dataset
from processes import BARE_PACKAGE, in_a_new_process
from recbole.config import Config
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model

import recbole_attn
from recbole_attn import registry
from recbole_attn.catalogue import Catalogue
from recbole_attn.data import PrefixDataset
from recbole_attn.model import MODELS

QUICK = {
    "epochs": 1,
    "train_batch_size": 8192,
    "hidden_size": 8,
    "inner_size": 8,
    "MAX_ITEM_LIST_LENGTH": 5,
    "show_progress": False,
    "state": "ERROR",
    "train_neg_sample_args": None,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_recbole_finds_the_model_its_properties_and_its_data_set(name):
    config = Config(name, "ml-100k")
    assert get_model(name).__name__ == name
    assert config["layer_norm_eps"] == 1e-12
    assert config["train_neg_sample_args"]["distribution"] == {"CE": "none", "BPR": "uniform"}[config["loss_type"]]
    assert getattr(recbole.data.dataset, f"{name}Dataset") is PrefixDataset


def test_recboles_order_of_precedence_holds_for_our_property_files(tmp_path):
    (tmp_path / "mine.yaml").write_text("n_heads: 4\n")
    assert Config("AWRSR", "ml-100k")["n_heads"] == 2
    assert Config("AWRSR", "ml-100k", ["mine.yaml"])["n_heads"] == 4
    assert Config("AWRSR", "ml-100k", ["mine.yaml"], {"n_heads": 8})["n_heads"] == 8


def test_run_recbole_trains_our_model_and_its_checkpoint_loads_through_recbole(tmp_path):
    result = run_recbole("AWRSR", "ml-100k", config_dict={**QUICK, "checkpoint_dir": str(tmp_path / "saved")})
    assert result["test_result"]["recall@10"] > 0
    (checkpoint,) = (tmp_path / "saved").glob("AWRSR*.pth")
    _, model, dataset, train_data, *_ = load_data_and_model(str(checkpoint))
    assert type(model).__name__ == "AWRSR"
    assert isinstance(dataset, PrefixDataset)
    assert len(train_data.dataset) > 90_000


def test_recboles_own_entry_points_warn_where_they_train_on_prefixes(caplog):
    with caplog.at_level("WARNING"):
        get_model("FAIR")(Config("FAIR", "ml-100k"), Catalogue("item_id", ["[PAD]", "one", "two"]))
    assert "RecBole's own entry points train FAIR on prefixes" in caplog.text


def test_hyper_tuning_knows_our_model(tmp_path):
    pytest.importorskip("hyperopt", reason="hyperopt is an extra: pip install -e .[tune]")
    code = f"""
        import recbole_attn
        from recbole.quick_start import objective_function
        from recbole.trainer import HyperTuning
        settings = {{**{QUICK!r}, "model": "AWRSR", "dataset": "ml-100k", "checkpoint_dir": "saved"}}
        tuning = HyperTuning(
            lambda tried, files: objective_function({{**settings, **tried}}, files),
            params_dict={{"choice": {{"refinement": ["simple"]}}}}, algo="random", max_evals=1, early_stop=1,
        )
        tuning.run()
        assert tuning.best_params == {{"refinement": "simple"}}, tuning.best_params
    """
    done = in_a_new_process(code, tmp_path)
    if "No module named 'pkg_resources'" in done.stderr:
        pytest.skip("hyperopt 0.2.5 needs setuptools<82")
    assert done.returncode == 0, done.stderr


def test_registering_again_changes_nothing():
    before = dict(sys.modules)
    update = Config._update_internal_config_dict
    recbole_attn.register()
    assert dict(sys.modules) == before
    assert Config._update_internal_config_dict is update


def test_a_name_that_recbole_has_is_refused(monkeypatch):
    monkeypatch.setitem(registry.MODELS, "SASRec", "recbole_attn.model.attn_sasrec")
    with pytest.raises(RuntimeError, match="RecBole already has a model named SASRec"):
        recbole_attn.register()


SASREC = """
PREPARE
import json
from recbole.quick_start import run_recbole
result = run_recbole("SASRec", "ml-100k", config_dict=SETTINGS)
print("RESULT", json.dumps([result["best_valid_result"], result["test_result"]]))
"""


def test_recboles_sasrec_gives_the_same_metrics_with_the_remedies_alone_and_with_the_plugin(tmp_path):
    remedies_alone = BARE_PACKAGE + "from recbole_attn import remedies; remedies.apply()"
    results = []
    for number, prepare in enumerate([remedies_alone, "import recbole_attn"]):
        settings = {**QUICK, "metric_decimal_place": 12, "checkpoint_dir": str(tmp_path / str(number))}
        code = SASREC.replace("PREPARE", prepare).replace("SETTINGS", repr(settings))
        done = in_a_new_process(code, tmp_path)
        assert done.returncode == 0, done.stderr
        results.append(done.stdout.split("RESULT")[1])
    assert results[0] == results[1]
    assert "ndcg@10" in results[0]
