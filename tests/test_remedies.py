"""Each remedy, taken away, brings its fault back: when a test here fails, RecBole needs that remedy no longer."""

import textwrap

import pytest
import torch
from processes import BARE_PACKAGE, in_a_new_process

from recbole_attn import remedies


def run(code, folder):
    begin = f"{BARE_PACKAGE}import torch\nfrom recbole_attn import remedies\n"
    return in_a_new_process(begin + textwrap.dedent(code), folder)


def without(name):
    return f"""
        remedies.{name} = lambda: None
        remedies.apply()
        from recbole.quick_start import run_recbole
        from recbole.config import Config
        Config("BPR", "ml-100k")
    """


def test_with_all_remedies_recbole_works(tmp_path):
    done = run(without("nothing"), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "fault"),
    [("restore_numpy_names", "float_"), ("stand_in_for_ray", "pkg_resources|bool8|No module named 'ray")],
)
def test_without_the_remedy_recbole_cannot_be_used(name, fault, tmp_path):
    done = run(without(name), tmp_path)
    assert done.returncode != 0
    assert any(word in done.stderr for word in fault.split("|"))


def test_without_the_remedy_recbole_cannot_load_its_own_checkpoint(tmp_path):
    code = """
        mend = remedies.let_recbole_load_checkpoints
        remedies.let_recbole_load_checkpoints = lambda: None
        remedies.apply()
        import glob
        from recbole.quick_start import load_data_and_model, run_recbole
        settings = {"epochs": 1, "show_progress": False, "state": "ERROR", "checkpoint_dir": "saved"}
        try:
            run_recbole("Pop", "ml-100k", config_dict=settings)
        except Exception as fault:
            assert "weights_only" in str(fault)
        else:
            sys.exit("RecBole does without the remedy")
        mend()
        load_data_and_model(glob.glob("saved/Pop*.pth")[0])
    """
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_without_the_remedy_recboles_graph_models_cannot_be_built(tmp_path):
    code = """
        remedies.restore_update_of_dok_matrices = lambda: None
        remedies.apply()
        from recbole.quick_start import run_recbole
        run_recbole("LightGCN", "ml-100k", config_dict={"epochs": 1, "state": "ERROR"})
    """
    done = run(code, tmp_path)
    assert done.returncode != 0
    assert "has no attribute '_update'" in done.stderr


def test_without_the_remedy_recbole_turns_anomaly_mode_on(tmp_path):
    code = """
        remedies.import_recbole_models = lambda: None
        remedies.apply()
        import recbole.model.sequential_recommender
        assert torch.is_anomaly_enabled()
    """
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", [True, False])
def test_anomaly_mode_is_left_as_the_user_had_it(mode, tmp_path):
    code = f"""
        torch.autograd.set_detect_anomaly({mode})
        remedies.apply()
        assert torch.is_anomaly_enabled() is {mode}
    """
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_other_callers_of_torch_load_keep_the_safe_default(tmp_path):
    torch.save({"anything": remedies.apply}, tmp_path / "file.pth")
    with pytest.raises(Exception, match="Weights only"):
        torch.load(tmp_path / "file.pth")


def test_pandas_3_is_refused(monkeypatch):
    monkeypatch.setattr("pandas.__version__", "3.0.1")
    with pytest.raises(ImportError, match="pip install 'pandas<3'"):
        remedies.refuse_pandas_3()


def test_applying_twice_changes_nothing():
    before = torch.load
    remedies.apply()
    assert torch.load is before
