"""Each remedy, taken away, brings its fault back: when a test here fails, RecBole needs that remedy no longer."""

import subprocess
import sys
import textwrap

import pytest
import torch

from recbole_attn import remedies

PREAMBLE = """
import importlib.util, sys, types, torch
package = types.ModuleType("recbole_attn")
package.__path__ = importlib.util.find_spec("recbole_attn").submodule_search_locations
sys.modules["recbole_attn"] = package  # its remedies can be reached without being applied
from recbole_attn import remedies
"""


def in_a_new_process(code, cwd):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREAMBLE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )


def without(name):
    return f"""
        remedies.{name} = lambda: None
        remedies.apply()
        from recbole.quick_start import run_recbole
        from recbole.config import Config
        sys.argv = ["test"]
        Config("BPR", "ml-100k")
    """


def test_with_all_remedies_recbole_works(tmp_path):
    done = in_a_new_process(without("nothing"), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "fault"),
    [("restore_numpy_names", "float_"), ("stand_in_for_ray", "pkg_resources|bool8|No module named 'ray")],
)
def test_without_the_remedy_recbole_cannot_be_used(name, fault, tmp_path):
    done = in_a_new_process(without(name), tmp_path)
    assert done.returncode != 0
    assert any(word in done.stderr for word in fault.split("|"))


def test_without_the_remedy_recbole_cannot_load_its_own_checkpoint(tmp_path):
    code = """
        LOAD
        remedies.apply()
        sys.argv = ["test"]
        from recbole.quick_start import load_data_and_model, run_recbole
        settings = {"epochs": 1, "show_progress": False, "state": "ERROR", "checkpoint_dir": "saved"}
        run_recbole("Pop", "ml-100k", config_dict=settings)
        import glob
        load_data_and_model(glob.glob("saved/Pop*.pth")[0])
    """
    assert in_a_new_process(code.replace("LOAD", ""), tmp_path).returncode == 0
    done = in_a_new_process(code.replace("LOAD", "remedies.let_recbole_load_checkpoints = lambda: None"), tmp_path)
    assert done.returncode != 0
    assert "weights_only" in done.stderr


def test_without_the_remedy_recboles_graph_models_cannot_be_built(tmp_path):
    code = """
        remedies.restore_update_of_dok_matrices = lambda: None
        remedies.apply()
        sys.argv = ["test"]
        from recbole.quick_start import run_recbole
        run_recbole("LightGCN", "ml-100k", config_dict={"epochs": 1, "state": "ERROR"})
    """
    done = in_a_new_process(code, tmp_path)
    assert done.returncode != 0
    assert "has no attribute '_update'" in done.stderr


def test_without_the_remedy_recbole_turns_anomaly_mode_on(tmp_path):
    code = """
        remedies.import_recbole_models = lambda: None
        remedies.apply()
        import recbole.model.sequential_recommender
        assert torch.is_anomaly_enabled()
    """
    done = in_a_new_process(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", [True, False])
def test_anomaly_mode_is_left_as_the_user_had_it(mode, tmp_path):
    code = f"""
        torch.autograd.set_detect_anomaly({mode})
        remedies.apply()
        assert torch.is_anomaly_enabled() is {mode}
    """
    done = in_a_new_process(code, tmp_path)
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
