"""A trial's hash changes with what its numbers depend on, and with nothing else."""

from __future__ import annotations

import shutil

import pytest
from comparisons import options
from runs import write_chains

from recbole_attn.compare import fingerprint
from recbole_attn.compare.plan import read_plan
from recbole_attn.compare.trials import trials_of


@pytest.fixture
def folder(tmp_path):
    write_chains(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def fresh():
    """Digests are kept for a process; here their files change under it."""
    yield
    fingerprint.code_digest.cache_clear()
    fingerprint.data_digest.cache_clear()
    fingerprint.content_digest.cache_clear()


def key(folder, model="AWRSR", **settings):
    fingerprint.code_digest.cache_clear()
    fingerprint.data_digest.cache_clear()
    fingerprint.content_digest.cache_clear()
    plan = read_plan(options(folder, model=model, **settings))
    return trials_of(plan, plan.rows[0])[0].key


def test_settings_and_seed_change_the_hash(folder):
    keys = [key(folder), key(folder, seed=7), key(folder, learning_rate=0.1), key(folder, refinement="simple")]
    assert len(set(keys)) == 4


def test_worker_processes_which_draw_their_own_negatives_change_the_hash(folder):
    assert key(folder, worker=2) != key(folder)


def test_a_default_that_is_spelt_out_does_not_change_the_hash(folder):
    assert key(folder) == key(folder, learning_rate=0.001, refinement="value")


def test_where_and_how_a_trial_runs_does_not_change_the_hash(folder, tmp_path):
    shutil.copytree(folder / "chains", folder / "elsewhere" / "chains")
    assert key(folder) == key(folder, data_path=folder / "elsewhere", checkpoint_dir="other", show_progress=True)


def test_data_change_the_hash(folder):
    before = key(folder)
    file = folder / "chains" / "chains.inter"
    file.write_text(file.read_text().replace("u1\t", "v1\t", 1))
    assert key(folder) != before


@pytest.mark.parametrize(
    ("setting", "value", "written"),
    [
        ("semantic_ids", "ids.tsv", "ids.tsv"),
        ("item_vectors", "vectors.npz", "vectors.npz"),
        ("item_vectors", "vectors.npy", "vectors.npy"),
        ("item_vectors", "vectors.npy", "vectors.ids"),  # the file of the ids of these vectors
        ("sentence_model", "encoder", "encoder/parts/weights.bin"),
    ],
)
def test_what_a_setting_names_changes_the_hash_with_its_content(folder, setting, value, written):
    file = folder / written
    file.parent.mkdir(parents=True, exist_ok=True)
    if value != "encoder":
        (folder / value).touch()
    settings = {"model": "RPG", setting: folder / value}
    file.write_text("1")
    before = key(folder, **settings)
    assert key(folder, **settings) == before
    file.write_text("2")
    assert key(folder, **settings) != before


def test_a_file_named_as_a_value_is_does_not_change_the_hash(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = key(folder, model="RPG", item_vectors="text")
    for name in ("text", "opq", "adam", "CE"):
        (folder / name).touch()
    assert key(folder, model="RPG", item_vectors="text") == before


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's source that a test may change."""
    copy = tmp_path / "recbole_attn"
    shutil.copytree(fingerprint.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "PACKAGE", copy)
    fingerprint.code_digest.cache_clear()
    return copy


def digests(*models):
    fingerprint.code_digest.cache_clear()
    return [fingerprint.code_digest(model) for model in models]


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("attention/refined.py", [True, False, False]),
        ("attention/softmax.py", [True, True, False]),
        ("masks.py", [True, True, False]),
        ("data/prefixes.py", [True, True, True]),
        ("trainer.py", [True, True, True]),
        ("compare/ranks.py", [True, True, True]),
        ("compare/statistics.py", [False, False, False]),
        ("cli.py", [False, False, False]),
    ],
)
def test_only_modules_that_a_model_runs_through_change_its_hash(package, file, changed):
    models = ("AWRSR", "AttnSASRec", "SASRec")
    before = digests(*models)
    (package / file).write_text((package / file).read_text() + "\nCHANGED = 1\n")
    assert [old != new for old, new in zip(before, digests(*models))] == changed


def test_comments_and_docstrings_do_not_change_the_hash(package):
    before = digests("AWRSR")
    file = package / "attention" / "refined.py"
    text = file.read_text()
    file.write_text("# a remark\n" + text.replace('"""', '"""Reworded. ', 1))
    assert digests("AWRSR") == before
