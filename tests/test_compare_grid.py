"""Tuning: equally many settings for each model, chosen on validation, all of them in the report."""

from __future__ import annotations

import json
import re

import pytest
from comparisons import Forked, arguments, fork_trials, options, results, write_result
from runs import mistake, write_chains

from recbole_attn.cli import main
from recbole_attn.compare.command import compare
from recbole_attn.compare.grid import choose, grids, points
from recbole_attn.compare.plan import read_plan
from recbole_attn.compare.store import Store
from recbole_attn.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tuned(folder, **tune):
    file = folder / "tune.yaml"
    file.write_text(json.dumps({"compare": {"rows": {"BPR": {}, "Pop": {}}}, "tune": tune}))
    return options(folder, config_files=file, name="tuned")


def test_a_grid_is_every_combination_or_a_list():
    grid = {"a": [1, 2], "b": [3, 4]}
    assert points("row", grid) == [{"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4}]
    assert points("row", [{"a": 1}, {"b": 2}]) == [{"a": 1}, {"b": 2}]
    for wrong in (3, [], {}, {"a": 1}, {"a": []}, [1]):
        with pytest.raises(UserError, match="write"):
            points("row", wrong)


def test_grids_of_different_sizes_are_refused(folder):
    plan = read_plan(tuned(folder, BPR={"learning_rate": [0.1, 0.2]}, Pop=[{"train_batch_size": 3}]))
    with pytest.raises(UserError, match="the same number of settings, but these differ: BPR 2, Pop 1"):
        grids(plan)


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({"learning_rate": [0.1, 0.1]}, "stands there twice, and would count as two settings"),
        (
            [{"learning_rate": 0.1}, {"model": "Pop"}],
            "model = Pop (tune.BPR): a row's settings do not",
        ),
    ],
)
def test_a_grid_whose_settings_are_none_is_refused(grid, says):
    with pytest.raises(UserError, match=re.escape(says)):
        points("BPR", grid)


def test_a_grid_of_no_row_is_refused(folder, capsys):
    (folder / "tune.yaml").write_text("tune: {SASRek: {learning_rate: [0.1]}}")
    line = mistake(arguments(folder, config_files=folder / "tune.yaml", model="Pop,BPR"), capsys)
    assert "tune.SASRek: there is no such row; the rows are Pop, BPR" in line


def test_a_grid_of_seeds_is_refused(folder):
    plan = read_plan(tuned(folder, Pop={"seed": [1, 2]}))
    with pytest.raises(UserError, match=r"row Pop: seed = 1 \(tune.Pop\): all rows have the same seeds"):
        grids(plan)


def test_a_setting_of_a_grid_that_the_model_lacks_is_refused(folder):
    plan = read_plan(tuned(folder, Pop={"n_heads": [1]}))
    with pytest.raises(UserError, match="row Pop: setting 'n_heads'"):
        grids(plan)


def test_a_setting_of_a_grid_that_the_model_refuses_is_refused_before_anything_runs(folder):
    (folder / "tune.yaml").write_text("tune: {AWRSR: {n_heads: [2, 3]}}")
    plan = read_plan(options(folder, config_files=folder / "tune.yaml", model="AWRSR,Pop"))
    with pytest.raises(UserError, match=r"row AWRSR: AWRSR: .*n_heads"):
        grids(plan)


def test_the_choice_is_the_best_on_validation_whatever_the_test_says(folder):
    plan = read_plan(tuned(folder, BPR={"learning_rate": [0.1, 0.2, 0.3]}))
    store = Store(folder / "results" / "tuned")
    candidates = grids(plan)["BPR"]
    for candidate, valid, test in zip(candidates, (0.2, 0.4, 0.3), (0.9, 0.1, 0.5)):
        (trial,) = candidate.trials
        write_result(store, trial, valid={"ndcg@10": valid}, test={"ndcg@10": test})
    assert choose(store, candidates)["chains"].values == {"learning_rate": 0.2}
    assert choose(Store(folder / "results" / "empty"), candidates) == {}


def test_the_chosen_setting_is_trained_with_every_seed_and_the_grid_is_listed(folder, monkeypatch):
    started = fork_trials(monkeypatch)
    asked = tuned(folder, BPR={"learning_rate": [0.0001, 0.02]})
    text, failed = compare({**asked, "seeds": 2})
    assert failed == 0
    assert "Not tuned, unlike the others: Pop" in text
    assert len(started) == 2 + 1 + 2  # the grid, one more seed of the chosen setting, two of Pop
    found = results(folder, "tuned")
    assert ("BPR", 2021) in found
    report = (folder / "results" / "tuned" / "report.md").read_text()
    assert "learning_rate = 0.0001" in report and "learning_rate = 0.02" in report
    assert report.count("| chosen |") == 1


def test_a_setting_that_fails_is_listed_with_its_reason_and_counts_as_failed(folder, monkeypatch):
    fork_trials(monkeypatch)
    text, failed = compare(tuned(folder, BPR={"learning_rate": [0.02, 1e30]}))
    assert failed == 1
    assert "failed: BPR, learning_rate = 1e+30: epoch 0" in text
    assert "| learning_rate = 1e+30 | – | failed: epoch 0" in (folder / "results" / "tuned" / "report.md").read_text()
    assert ("BPR", 2020) in results(folder, "tuned")


def test_a_row_whose_whole_grid_fails_is_not_trained_on_its_defaults(folder, monkeypatch):
    started = fork_trials(monkeypatch)
    text, failed = compare(tuned(folder, BPR={"learning_rate": [1e29, 1e30]}))
    assert failed == 2 + 1
    assert len(started) == 2 + 1  # the grid, and Pop
    assert "failed: BPR, seed 2020: no setting of its grid has a validation score, so none was chosen" in text


def test_nothing_is_chosen_from_a_grid_of_which_a_setting_waits(folder, monkeypatch):
    fork_trials(monkeypatch)
    asked = tuned(folder, BPR={"learning_rate": [0.01, 0.02]})
    first, second = (candidate.trials[0] for candidate in grids(read_plan(asked))["BPR"])
    compare(asked)
    store = Store(folder / "results" / "tuned")
    (store.of(second) / "result.json").unlink()
    text, failed = compare({**asked, "report_only": True})
    assert failed == 0
    assert "waiting: BPR, learning_rate = 0.02\nwaiting: BPR, seed 2020\n" in text
    report = (folder / "results" / "tuned" / "report.md").read_text()
    assert "| chosen |" not in report and re.search(r"learning_rate = 0\.02 \| – \| waiting \|", report)
    assert store.result(first) and choose(store, grids(read_plan(asked))["BPR"]) == {}


def test_a_grid_without_validation_rows_says_so(folder, monkeypatch):
    fork_trials(monkeypatch)
    asked = tuned(folder, Pop={"train_batch_size": [3]})
    text, failed = compare({**asked, "eval_args": {"split": {"LS": "test_only"}}})
    assert failed == 1 + 1
    assert "Pop, train_batch_size = 3: eval_args.split = {'LS': 'test_only'} leaves no rows to validate on" in text


def test_several_trials_at_once_give_the_numbers_of_one_after_another(folder, monkeypatch, capsys):
    fork_trials(monkeypatch)
    poll, asked = Forked.poll, set()

    def seen_to_end_after_all_have_started(self):
        if self.pid in asked:
            return poll(self)
        asked.add(self.pid)

    monkeypatch.setattr(Forked, "poll", seen_to_end_after_all_have_started)
    for jobs in (1, 3):
        assert main(arguments(folder, model="Pop,BPR", seeds=2, jobs=jobs, name=f"jobs{jobs}", rerun=True)) == 0
    printed = capsys.readouterr().err
    one, three = results(folder, "jobs1"), results(folder, "jobs3")
    assert {key: result["test"] for key, result in one.items()} == {
        key: result["test"] for key, result in three.items()
    }
    assert (
        "running  Pop, chains, seed 2020\nrunning  Pop, chains, seed 2021\nrunning  BPR, chains, seed 2020" in printed
    )


def test_several_data_sets_have_a_table_each(folder, monkeypatch, capsys):
    fork_trials(monkeypatch)
    write_chains(folder, users=30, items=22, name="links")
    assert main(arguments(folder, model="Pop", dataset="chains,links")) == 0
    printed = capsys.readouterr().out
    assert "\nchains\nrow" in printed and "\nlinks\nrow" in printed
    assert len(list((folder / "results" / "chains+links").glob("*/result.json"))) == 2
