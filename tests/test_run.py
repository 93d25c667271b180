"""A single run: under the protocol of comparisons, and quiet about settings until the data are read."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
from atomic_files import write
from comparisons import TINY, fork_trials, results, write_timed
from comparisons import run as compare
from runs import HEADER

from recbole_attn import memory
from recbole_attn.config.settings import load_settings
from recbole_attn.errors import UserError
from recbole_attn.run import new_folder, run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Users with three to nine interactions at random times."""
    draw = np.random.default_rng(1)
    rows = [
        (f"u{user}", f"i{int(25 * draw.random() ** 2)}", draw.integers(1000) + 1_000_000_000)
        for user in range(40)
        for _ in range(draw.integers(3, 10))
    ]
    write_timed(tmp_path, rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(folder, model, **settings):
    values = {**TINY, "data_path": str(folder), "checkpoint_dir": str(folder / "saved"), **settings}
    return load_settings(model, "timed", config_dict=values).config


@pytest.mark.parametrize("model", ["Pop", "BPR", "SASRec"])
def test_a_single_run_finds_the_metrics_of_a_comparison(model, folder, monkeypatch):
    fork_trials(monkeypatch)
    small = {"hidden_size": 8, "inner_size": 8} if model == "SASRec" else {}
    found = run(configured(folder, model, **small))
    _, failed = compare(folder, model=model, dataset="timed", seeds=1, name="one")
    assert not failed
    (trial,) = results(folder, "one").values()
    assert (found.test, found.valid) == (trial["test"], trial["valid"])
    assert found.test["ndcg@10"] > 0


def test_a_saved_data_set_of_a_general_model_is_split_in_the_same_way(folder):
    first = run(configured(folder, "BPR", save_dataset=True))
    (saved,) = (folder / "saved").rglob("timed-*.pth")
    (folder / "timed" / "timed.inter").unlink()
    assert run(configured(folder, "BPR", dataset_save_path=str(saved))).test == first.test


def test_several_processes_for_a_single_run_are_refused_before_anything_is_written(folder):
    with pytest.raises(UserError, match="nproc = 2: works in comparisons alone; add --seeds=1, or leave nproc at 1"):
        run(configured(folder, "BPR", nproc=2))
    assert not (folder / "saved").exists()


def test_settings_are_logged_once_the_data_are_read_and_not_above_a_mistake_in_them(folder, caplog):
    caplog.set_level(logging.INFO)
    file = folder / "timed" / "timed.inter"
    whole = file.read_text()
    file.write_text(whole + "u1\ti1\tnoon\n")
    with pytest.raises(UserError, match="'noon'"):
        run(configured(folder, "Pop", state="INFO"))
    assert "train_batch_size" not in caplog.text
    file.write_text(whole)
    run(configured(folder, "Pop", state="INFO"))
    assert 0 < caplog.text.index("train_batch_size") < caplog.text.index("The number of users")


def test_a_model_of_labels_keeps_its_own_splits_and_needs_no_long_lists(folder):
    rows = [(f"u{user}", f"i{(user + step) % 7}", step, (user + step) % 2) for user in range(20) for step in range(6)]
    write(folder, [(*HEADER, "label:float"), *rows], name="timed")
    labels = {"eval_args": {"mode": "labeled", "split": {"RS": [0.6, 0.2, 0.2]}}, "load_col": None}
    settings = {"metrics": ["AUC"], "valid_metric": "AUC", "topk": [10, 1000], "train_neg_sample_args": None, **labels}
    assert 0 <= run(configured(folder, "FM", **settings)).test["auc"] <= 1


def test_runs_of_one_process_within_a_second_have_folders_of_their_own(tmp_path):
    config = {"model": "AWRSR", "dataset": "chains", "checkpoint_dir": str(tmp_path)}
    folders = set()
    for _ in range(3):
        folder = new_folder(config)
        folder.mkdir()
        folders.add(folder)
    assert len(folders) == 3


def test_the_peak_of_memory_is_that_of_the_program_alone():
    """A child is a copy of its parent until it runs a program of its own."""
    held = np.ones(1 << 26)  # 512 MiB
    code = "import sys; exec(open(sys.argv[1]).read()); print(peak_resident())"
    child = subprocess.run([sys.executable, "-c", code, memory.__file__], capture_output=True, text=True, check=True)
    assert held.nbytes <= memory.peak_resident()
    assert int(child.stdout) < held.nbytes / 2
