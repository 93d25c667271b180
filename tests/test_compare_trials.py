"""Trials: nothing is run twice, nothing is lost, and what failed says why."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from comparisons import SMALL_ATTENTION, arguments, fork_trials, options, results, run, write_timed
from runs import PATIENCE, mistake, write_chains

from recbole_attn import acceleration
from recbole_attn.cli import main
from recbole_attn.compare import schedule, trial
from recbole_attn.compare.command import compare
from recbole_attn.compare.fingerprint import PACKAGE, data_digest
from recbole_attn.compare.plan import read_plan
from recbole_attn.compare.schedule import death
from recbole_attn.compare.store import Store
from recbole_attn.compare.trial import last_words, reason
from recbole_attn.compare.trials import trials_of
from recbole_attn.config.command_line import run_options
from recbole_attn.progress import WatchedTrainer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    return fork_trials(monkeypatch)


def test_each_row_is_trained_with_each_seed_and_what_is_finished_is_not_run_again(folder, started):
    text, failed = run(folder, model="SASRec,Pop", seeds=2)
    assert failed == 0
    assert sorted(results(folder)) == [("Pop", 2020), ("Pop", 2021), ("SASRec", 2020), ("SASRec", 2021)]
    assert len(started) == 4
    again, _ = run(folder, model="SASRec,Pop", seeds=2)
    assert again == text
    assert len(started) == 4
    run(folder, model="SASRec,Pop,AWRSR", seeds=2)
    assert len(started) == 6


def test_what_is_not_asked_for_is_as_run_yaml_has_it(folder, started, monkeypatch):
    declared = {**run_options(), "results": run_options()["results"]._replace(default="elsewhere")}
    monkeypatch.setattr("recbole_attn.compare.plan.run_options", lambda: declared)
    compare({name: value for name, value in options(folder, model="Pop", seeds=1).items() if name != "results"})
    assert len(list((folder / "elsewhere" / "chains").glob("*/result.json"))) == 1


def test_rerun_runs_finished_trials_again(folder, started):
    run(folder, model="Pop", seeds=1)
    run(folder, model="Pop", seeds=1, rerun=True)
    assert len(started) == 2


@pytest.mark.parametrize("ending", ["interrupted", "killed", "failed"])
def test_what_rerun_does_not_finish_keeps_its_first_result(folder, started, monkeypatch, ending):
    run(folder, model="Pop,BPR", seeds=1)
    before = {path: path.read_bytes() for path in folder.glob("results/chains/*/result.json")}
    begin, told = schedule.start, folder / "told"

    def start(place, changes=None):
        if ending == "failed":
            return begin(place / "nowhere")
        if ending == "interrupted":
            raise KeyboardInterrupt
        os._exit(9)

    monkeypatch.setattr(schedule, "start", start)
    child = os.fork()
    if not child:
        try:
            text, failed = run(folder, model="Pop,BPR", seeds=1, rerun=True)
            told.write_text(f"{failed} {text}")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if ending == "failed":
        assert told.read_text().startswith("2 ")
        assert "seed 2020, run again: its process ended with exit code 1" in told.read_text()
        assert told.read_text().endswith("its first result is kept")
    monkeypatch.setattr(schedule, "start", begin)
    count = len(started)
    run(folder, model="Pop,BPR", seeds=1)
    assert {path: path.read_bytes() for path in before} == before
    assert len(started) == count and not list(folder.glob("results/chains/*.before"))


def test_a_second_result_takes_the_place_of_the_first(folder, started):
    run(folder, model="Pop", seeds=1)
    (place,) = (file.parent for file in folder.glob("results/chains/*/result.json"))
    (place / "of the first").touch()
    run(folder, model="Pop", seeds=1, rerun=True)
    assert [file.parent for file in folder.glob("results/chains/*/result.json")] == [place]
    assert not (place / "of the first").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "ranks.npz").write_bytes((place / "ranks.npz").read_bytes()[:-40]),
        lambda place: (place / "ranks.npz").write_bytes(b""),
        lambda place: (place / "ranks.npz").write_text("version https://git-lfs.github.com/spec/v1"),
        lambda place: (place / "result.json").write_text('{"test": {}}'),
        lambda place: (place / "result.json").write_text("[1]"),
    ],
)
def test_a_trial_whose_files_are_damaged_is_run_again(folder, started, damage):
    text, _ = run(folder, model="Pop", seeds=1)
    (place,) = (file.parent for file in folder.glob("results/chains/*/result.json"))
    damage(place)
    assert run(folder, model="Pop", seeds=1) == (text, 0)
    assert len(started) == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"chains": null}'])
def test_a_damaged_protocol_is_not_taken_for_none(folder, started, capsys, content):
    run(folder, model="Pop", seeds=1)
    (folder / "results" / "chains" / "protocol.json").write_text(content)
    line = mistake(arguments(folder, model="Pop", seeds=1), capsys)
    assert "protocol.json is damaged; delete it if its trials were made as asked now, or choose another --name" in line
    assert len(started) == 1


def test_what_failed_before_waits_until_it_is_tried_again(folder, started, monkeypatch, capsys):
    begin = schedule.start
    monkeypatch.setattr(schedule, "start", lambda place, changes=None: begin(place / "nowhere"))
    assert run(folder, model="Pop", seeds=1)[1] == 1
    monkeypatch.setattr(schedule, "start", begin)
    capsys.readouterr()
    run(folder, model="Pop", seeds=1)
    assert capsys.readouterr().err.splitlines()[0] == "1 waiting"


def test_a_trial_that_another_comparison_beside_this_one_has_finished_is_taken_over(folder, started):
    run(folder, model="Pop", seeds=1, name="first")
    run(folder, model="Pop", seeds=1, name="second")
    assert len(started) == 1
    for file in ("ranks.npz", "training/best.pth"):
        assert len(list((folder / "results" / "second").glob(f"*/{file}"))) == 1
    run(folder, model="Pop", seeds=1, name="second", rerun=True)
    assert len(started) == 2


def test_what_has_finished_is_reported_beside_a_command_at_work(folder, started):
    asked = {"model": "Pop,BPR", "seeds": 2, "baseline": "BPR"}
    run(folder, model="Pop", seeds=1)
    with Store(folder / "results" / "chains").locked():
        text, failed = run(folder, **asked, report_only=True)
    assert (failed, len(started)) == (0, 1)
    assert "waiting: Pop, seed 2021\nwaiting: BPR, seed 2020, 2021\n" in text and "failed" not in text
    assert re.search(r"Pop +[\d.]+ ←.* 1 of 2\nBPR +waiting .* 0 of 2\n", text)
    report = (folder / "results" / "chains" / "report.md").read_text()
    assert "Not finished when this was written" in report and "report_only" not in report
    with (folder / "results" / "chains" / "results.csv").open() as file:
        rows = {(row["row"], row["seed"]): row["status"] for row in csv.DictReader(file)}
    waiting = [("Pop", "2021"), ("BPR", "2020"), ("BPR", "2021")]
    assert rows == {("Pop", "2020"): "done", **dict.fromkeys(waiting, "waiting")}
    whole = run(folder, **asked)
    assert run(folder, **asked, report_only=True) == whole
    assert len(started) == 4


def test_two_rows_with_equal_settings_are_one_trial(folder, started):
    (folder / "rows.yaml").write_text("compare: {rows: {one: {model: Pop}, two: {model: Pop}}}")
    text, _ = run(folder, config_files=folder / "rows.yaml")
    assert len(started) == 1
    assert "one " in text and "two " in text


def test_a_diverging_row_is_marked_with_its_reason_and_the_others_finish(folder, started, capsys):
    code = main(arguments(folder, model="SASRec,Pop", seeds=1, **{"SASRec.learning_rate": 1e30}))
    printed = capsys.readouterr().out
    assert code == 1
    assert "failed: SASRec, seed 2020: epoch 0" in printed
    assert "try a learning_rate lower than 1e+30" in printed
    assert [row for row, _ in results(folder)] == ["Pop"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "out of memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "out of memory: CUDA out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"), "out of memory: DefaultCPUAllocator"),
        (ValueError("two\nlines"), "ValueError: two lines"),
    ],
)
def test_a_failure_has_a_reason_in_one_line(error, says):
    assert reason(error).startswith(says)


def test_of_several_processes_the_one_that_failed_is_quoted():
    report = "\n-- Process 1 terminated with the following error:\nTraceback ...\nx.errors.UserError: the loss is nan\n"
    assert last_words(report) == "the loss is nan"
    assert last_words("process 0 terminated with signal SIGKILL") == "process 0 terminated with signal SIGKILL"


def test_a_death_names_its_signal():
    assert death(-signal.SIGKILL) == "its process was killed by SIGKILL (out of memory?)"
    assert death(-signal.SIGSEGV) == "its process was killed by SIGSEGV"
    assert "exit code 3" in death(3)


def test_a_killed_trial_fails_its_row_and_the_same_command_completes_it(folder, started, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("recbole_attn.compare.trial.main", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        text, failed = run(folder, model="Pop,BPR", seeds=1)
    assert failed == 2
    assert "failed: BPR, seed 2020: its process was killed by SIGKILL" in text
    text, failed = run(folder, model="Pop,BPR", seeds=1)
    assert failed == 0
    assert "failed" not in text


def killed_at(event, monkeypatch):
    """Have a fork of this process killed before the `event`-th batch or file that it finishes, however fast it is."""
    test, events = os.getpid(), itertools.count(1)

    def counted(step):
        def take(*arguments, **options):
            if os.getpid() != test and next(events) == event:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        return take

    for place, name in ((WatchedTrainer, "_check_nan"), (os, "fsync"), (os, "replace")):
        monkeypatch.setattr(place, name, counted(getattr(place, name)))


def test_trials_killed_at_random_points_end_with_the_numbers_of_undisturbed_ones(folder, started, monkeypatch):
    draw = random.Random(0)
    table, _ = run(folder, model="AWRSR", seeds=1, epochs=8, name="undisturbed")
    (calm,) = results(folder, "undisturbed").values()
    (folder / "results" / "undisturbed").rename(folder / "aside")  # where it is not taken over
    plan = read_plan(options(folder, model="AWRSR", seeds=1, epochs=8, name="killed"))
    store = Store(folder / "results" / "killed")
    (trial,) = trials_of(plan, plan.rows[0])
    kills = 0
    while not store.result(trial) and kills < 12:
        with monkeypatch.context() as patch:
            killed_at(draw.randint(1, 30), patch)
            kills += schedule.start(store.prepare(trial)).wait() == -signal.SIGKILL
    again, failed = run(folder, model="AWRSR", seeds=1, epochs=8, name="killed")
    assert kills > 1 and not failed
    assert again.partition("report  ")[0] == table.partition("report  ")[0] != ""
    (killed,) = results(folder, "killed").values()
    for name in ("test", "valid", "best_epoch", "epochs", "stop_reason"):
        assert killed[name] == calm[name]
    assert [epoch["train_loss"] for epoch in killed["history"]] == [epoch["train_loss"] for epoch in calm["history"]]


@pytest.mark.slow
def test_a_killed_command_takes_its_trial_along_and_is_completed_by_another(folder):
    command = [sys.executable, "-m", "recbole_attn", *arguments(folder, model="Pop,SASRec", seeds=1, epochs=3)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list((folder / "results").glob("*/*/result.json")) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert [row for row, _ in results(folder)] == ["Pop"]
    assert subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE).returncode == 0
    assert {row for row, _ in results(folder)} == {"Pop", "SASRec"}


@pytest.mark.slow
def test_a_trial_whose_command_died_before_it_began_does_not_begin(folder):
    plan = read_plan(options(folder, model="Pop", seeds=1))
    store = Store(folder / "results" / "chains")
    (trial,) = trials_of(plan, plan.rows[0])
    stranger = "0"
    command = [sys.executable, "-m", "recbole_attn.compare.trial", str(store.prepare(trial)), stranger]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert store.result(trial) is None and store.failure(trial) is None


def test_two_processes_that_make_the_folder_of_logs_at_once_do_not_fail(folder, started, monkeypatch):
    seen = os.path.exists

    def seen_a_moment_too_early(path):
        found = seen(path)
        if os.path.normpath(path).startswith("log" + os.sep) and not found:
            os.makedirs(path)  # by the other process
        return found

    monkeypatch.setattr(os.path, "exists", seen_a_moment_too_early)
    _, failed = run(folder, model="Pop", seeds=1)
    assert failed == 0


def test_half_a_result_counts_as_none(folder, started):
    run(folder, model="Pop", seeds=1)
    (file,) = (folder / "results").glob("chains/*/result.json")
    file.write_text(file.read_text()[:100])
    run(folder, model="Pop", seeds=1)
    assert json.loads(file.read_text())["row"] == "Pop"


def write_codes(file, items=20):
    file.write_text("".join(f"i{n}\t{n % 4}\t{n % 5}\n" for n in range(items)))


@pytest.mark.parametrize(
    ("setting", "value", "absolute"),
    [
        ("semantic_ids", "ids.tsv", True),
        ("item_vectors", "vectors.npz", True),
        ("item_vectors", "text", False),  # a source, although a file of this name lies there
        ("sentence_model", "encoder", True),
        ("sentence_model", "name/of-a-model", False),
    ],
)
def test_a_path_means_what_lies_where_the_command_is_given(folder, setting, value, absolute):
    for name in ("ids.tsv", "vectors.npz", "text"):
        (folder / name).touch()
    (folder / "encoder").mkdir()
    plan = read_plan(options(folder, model="RPG", seeds=1, **{setting: value}))
    (trial,) = trials_of(plan, plan.rows[0])
    assert trial.settings[setting] == trial.config[setting] == (str(folder / value) if absolute else value)


def test_trials_read_a_table_that_lies_where_the_command_is_given(folder, started):
    write_codes(folder / "ids.tsv")
    assert run(folder, model="RPG", seeds=1, semantic_ids="ids.tsv", quantizer="rq", **SMALL_ATTENTION)[1] == 0
    assert [file.parent for file in folder.rglob("ids.tsv")] == [folder]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"topk": "[1, 99]", "valid_metric": "NDCG@1"}, "topk = [1, 99]: there are only 20 items to rank"),
        ({"semantic_ids": "short.tsv"}, "short.tsv: lacks 3 of 20 items, i17 for one"),
        ({"item_vectors": "short.npz"}, "short.npz: lacks 3 of 20 items, i17 for one"),
        ({"item_vectors": "broken.npz"}, "broken.npz: the vector of item i4 holds NaN or infinity"),
        ({"item_vectors": "text"}, "item_vectors=text: there is no "),
        ({"item_vectors": "alike.npz"}, "all items in training have the same vector"),
    ],
)
def test_data_that_a_row_cannot_be_made_of_stop_the_others_before_they_run(folder, started, capsys, wrong, says):
    write_codes(folder / "short.tsv", items=17)
    ids = np.array([f"i{n}" for n in range(20)])
    vectors = np.random.default_rng(0).normal(size=(20, 4))
    np.savez(folder / "short.npz", ids=ids[:17], vectors=vectors[:17])
    np.savez(folder / "broken.npz", ids=ids, vectors=np.where(ids[:, None] == "i4", np.nan, vectors))
    np.savez(folder / "alike.npz", ids=ids, vectors=np.ones((20, 4)))
    given = {"quantizer": "rq", **SMALL_ATTENTION, **wrong}
    line = mistake(arguments(folder, model="Pop,RPG", seeds=1, **given), capsys)
    assert says in line
    assert ("row RPG" in line) == ("topk" not in wrong)
    assert not started


def test_a_result_without_its_ranks_counts_as_none(folder, started):
    run(folder, model="Pop", seeds=1)
    (file,) = (folder / "results").glob("chains/*/ranks.npz")
    file.unlink()
    assert run(folder, model="Pop", seeds=1)[1] == 0
    assert len(started) == 2 and file.is_file()


def test_settings_of_one_model_reach_its_rows_alone(folder):
    plan = read_plan(
        options(folder, model="AWRSR,SASRec", seeds=1, **{"AWRSR.refinement": "simple", "AWRSR.n_layers": 1})
    )
    awrsr, sasrec = (trials_of(plan, row)[0].config for row in plan.rows)
    assert (awrsr["refinement"], awrsr["n_layers"]) == ("simple", 1)
    assert sasrec["n_layers"] == 2


def test_a_setting_that_some_rows_lack_reaches_those_that_have_it(folder):
    plan = read_plan(options(folder, model="Pop,SASRec", seeds=1, n_heads=1))
    pop, sasrec = (trials_of(plan, row)[0] for row in plan.rows)
    assert sasrec.config["n_heads"] == 1
    assert "n_heads" not in pop.settings


def test_k_is_a_setting_of_the_models_that_have_it(folder):
    plan = read_plan(options(folder, model="Pop,ItemKNN", seeds=1, k=3))
    pop, neighbours = (trials_of(plan, row)[0] for row in plan.rows)
    assert neighbours.config["k"] == 3
    assert "k" not in pop.settings


def test_rows_of_a_file_are_named_and_the_command_line_stands_above_them(folder):
    (folder / "ablation.yaml").write_text(
        "dataset: chains\nhidden_dropout_prob: 0.3\n"
        "compare: {baseline: plain, seeds: 3, rows: {plain: {model: SASRec}, value: {model: AWRSR, refinement: value},"
        " simple: {model: AWRSR, refinement: simple, n_heads: 1}}}"
    )
    values = {"config_files": "ablation.yaml", "data_path": folder, "simple.n_heads": 4}
    plan = read_plan(
        {
            key: value
            for key, value in options(folder, **values).items()
            if key in ("config_files", "data_path", "simple")
        }
    )
    trials = {row.name: trials_of(plan, row) for row in plan.rows}
    assert (plan.folder, plan.baseline) == (Path("results/ablation"), "plain")
    assert [len(row) for row in trials.values()] == [3, 3, 3]
    assert [row[0].config.get("refinement") for row in trials.values()] == [None, "value", "simple"]
    assert trials["simple"][0].config["n_heads"] == 4
    assert trials["plain"][0].config["hidden_dropout_prob"] == 0.3


WRONG = [
    ({"model": "SASRec,SASRek"}, "row SASRek: there is no model 'SASRek': did you mean 'SASRec'"),
    ({"model": "Pop,Pop"}, "Pop is given twice"),
    ({"model": "Pop,"}, "give one or several names"),
    ({"model": "Pop,DeepFM"}, "DeepFM is a context_aware model"),
    ({"seeds": 0}, "seeds = 0 (command line) is not allowed: it must be int >= 1"),
    ({"metrics": "[Recal]"}, "metrics = Recal (command line) is no metric: did you mean 'Recall'"),
    ({"metrics": "[AUC]", "valid_metric": "AUC", "eval_args.mode": "labeled"}, "needs ranking metrics"),
    ({"dataset": "chain"}, "dataset=chain: no such data set; its files belong in"),
    ({"n_head": 2}, "unknown setting 'n_head'"),
    ({"Pop.n_heads": 2}, "'n_heads' (command line, Pop) is not one of Pop"),
    ({"SASRec": 2}, "SASRec = 2 (command line): write SASRec.SETTING=VALUE"),
    ({"baseline": "BPR"}, "baseline = BPR: there is no such row; the rows are Pop, SASRec"),
    ({"name": "../else"}, "must be the plain name of a folder"),
    ({"topk": "[1, 10]"}, "holds results of another protocol: topk = [1, 5, 10, 20] there, [1, 10] here"),
    ({"Pop.epochs": 9}, "holds results of another protocol: epochs = 2 there, 9 here"),
    ({"Pop.epochs": 9, "name": "new"}, "row SASRec: epochs = 2, but 9 in the other rows; all rows need the same"),
    (
        {"Pop.user_inter_num_interval": "[9,inf)", "name": "new"},
        "row SASRec: user_inter_num_interval = [0,inf), but [9,inf) in the other rows; all rows need the same",
    ),
    ({"Pop.eval_step": 2, "name": "new"}, "row SASRec: eval_step = 1, but 2 in the other rows"),
    ({"SASRec.seed": 3}, "row SASRec: seed = 3 (command line, SASRec): all rows have the same seeds"),
    ({"engine": "ray"}, "engine = 'ray' (command line) is not allowed: it must be dask"),
    (
        {"metrics": "[GAUC,NDCG]", "valid_metric": "GAUC", "name": "new"},
        "valid_metric = GAUC: a comparison pairs users",
    ),
    ({"model": "Pop,S3Rec"}, "row S3Rec: model = S3Rec: has to be pre-trained, in a run of its own"),
    ({"Pop.dataset": "links"}, "dataset = links (command line, Pop): a row's settings do not say what it is of"),
    ({"Pop.model": "BPR"}, "write compare: {rows: {NAME: {model: MODEL}}}"),
    ({"users": "u1"}, "users: has no effect on a comparison; leave it out"),
    ({"exclude_seen": True}, "exclude_seen: has no effect on a comparison"),
    (
        {"model": "RPG,Pop", "semantic_ids": "new.tsv", "quantizer": "rq"},
        "row RPG: semantic_ids=new.tsv: no such file, and one trial must not make the codes of the others; make it",
    ),
    ({"k": 5}, "'k' (command line) is not one of Pop; it belongs to ADMMSLIM"),
    ({"dataset_save_path": "a.pth"}, "row Pop: dataset_save_path = a.pth: a comparison reads the data set's own files"),
    ({"SASRec.dataloaders_save_path": "a.pth"}, "row SASRec: dataloaders_save_path = a.pth: a comparison reads"),
    ({"SASRec.TIME_FIELD": "other", "name": "new"}, "row SASRec: TIME_FIELD = other, but timestamp in the other rows"),
    (
        {"SASRec.metric_decimal_place": 2, "name": "new"},
        "row SASRec: metric_decimal_place = 2, but 4 in the other rows",
    ),
    (
        {"model": "Pop,RPG", "RPG.quantizer": "pq", "RPG.n_codes": 9, "RPG.vector_size": 4},
        "row RPG: n_codes=9: quantizer=pq cuts vectors into so many slices",
    ),
    ({"model": "Pop,RPG", "RPG.item_vectors": "txt"}, "row RPG: item_vectors=txt: no such file"),
    ({"model": "Pop,AWRSR", "AWRSR.n_heads": 3, "AWRSR.hidden_size": 8}, "row AWRSR: AWRSR: "),
    ({"eval_args.split": "{LS: valid_only}"}, "eval_args.split = {'LS': 'valid_only'}: leaves no rows to test on"),
    ({"eval_args.split": "{RS: [.8, .2, 0]}"}, "eval_args.split = {'RS': [0.8, 0.2, 0]}: leaves no rows to test on"),
    (
        {"model": "BPR,Pop", "eval_args.split": "{RS: [.8, .1, .1]}", "eval_args.mode": "uni10"},
        "row BPR: eval_args.mode = uni10: sampled candidates and several targets of one user",
    ),
    (
        {"model": "SASRec,AWRSR", "eval_args.split": "{RS: [.8, .1, .1]}", "eval_args.mode": "uni10"},
        "row SASRec: eval_args.mode = uni10: sampled candidates and several targets of one user",
    ),
    ({"engine": "dask"}, "needs the address of its scheduler"),
    (
        {"engine": "dask", "address": "tls://localhost:1"},
        "address = tls://localhost:1: no Dask scheduler answers there",
    ),
    ({"engine": "dask", "resources": "{CPU: many}"}, "resources.CPU = 'many': must be a number from 0 up"),
    ({"engine": "dask", "resources": "{GPU: -1}"}, "resources.GPU = -1: must be a number from 0 up"),
    ({"address": "tcp://localhost:1"}, "add --engine=dask"),
    ({"report_only": True}, "rerun: has no effect with report_only"),
    ({"report_only": True, "rerun": False, "seed": 7}, "chains has no finished trial of this comparison with these"),
    ({"report_only": True, "rerun": False, "name": "new"}, "new has no finished trial of this comparison with these"),
    ({"resources": "{CPU: 2}"}, "resources = {'CPU': 2}: needs an engine; add --engine=dask"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the row Pop is done already."""
    folder = tmp_path_factory.mktemp("finished")
    write_chains(folder)
    with pytest.MonkeyPatch.context() as patch:
        fork_trials(patch)
        run(folder, model="Pop", seeds=1)
    return folder


@pytest.mark.parametrize(("wrong", "says"), WRONG)
def test_a_mistake_is_one_line_and_touches_no_finished_trial(finished, wrong, says, capsys, monkeypatch):
    monkeypatch.setattr(schedule, "start", lambda *_: pytest.fail("a trial was started"))
    before = {file: file.stat().st_mtime_ns for file in (finished / "results").rglob("*.json")}
    line = mistake(arguments(finished, **{"model": "Pop,SASRec", "seeds": 1, "rerun": True, **wrong}), capsys)
    assert says in line
    assert {file: file.stat().st_mtime_ns for file in (finished / "results").rglob("*.json")} == before


def test_a_cluster_without_dask_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = mistake(arguments(folder, model="Pop,BPR", engine="dask", address="tcp://localhost:1"), capsys)
    assert line == "error: engine = dask: it is not installed; pip install 'dask[distributed]'"


def test_a_data_set_that_recbole_knows_is_downloaded_as_for_a_single_run(tmp_path, started, monkeypatch):
    def download(url, folder):
        write_chains(tmp_path, name="source")
        with zipfile.ZipFile(Path(folder) / "ml-1m.zip", "w") as archive:
            archive.write(tmp_path / "source" / "source.inter", "ml-1m.inter")
        return str(Path(folder) / "ml-1m.zip")

    monkeypatch.setattr("recbole.data.dataset.dataset.decide_download", lambda url: True)
    monkeypatch.setattr("recbole.data.dataset.dataset.download_url", download)
    run(tmp_path, model="Pop,BPR", dataset="ml-1m")
    assert {row for row, _ in results(tmp_path, "ml-1m")} == {"Pop", "BPR"}


def test_a_download_that_fails_is_one_line(tmp_path, started, capsys, monkeypatch):
    def offline(url):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("recbole.data.dataset.dataset.decide_download", offline)
    line = mistake(arguments(tmp_path, model="Pop,BPR", dataset="ml-1m"), capsys)
    assert "dataset=ml-1m: the download failed (Network is unreachable); its files belong in" in line
    assert not started


def test_what_this_machine_cannot_is_refused_before_anything_runs(folder, started, capsys, monkeypatch):
    """Its finished trials are not asked to run, so that their table can be made here again."""
    (folder / "rows.yaml").write_text("compare: {rows: {Pop: , rounded: {model: AttnSASRec, precision: bf16}}}\n")
    given = {"config_files": folder / "rows.yaml", **SMALL_ATTENTION}
    monkeypatch.setattr(acceleration, "has_bf16", lambda device: False)
    line = mistake(arguments(folder, **given), capsys)
    assert "row rounded: precision = bf16: this processor has no bfloat16 products; use precision=float32" in line
    assert not started
    assert not (folder / "results" / "rows" / "protocol.json").exists()
    monkeypatch.setattr(acceleration, "has_bf16", lambda device: True)
    run(folder, **given)
    assert len(started) == 2
    monkeypatch.setattr(acceleration, "has_bf16", lambda device: False)
    assert main(arguments(folder, **given)) == 0
    assert main(arguments(folder, name="beside", **given)) == 0  # it takes them over
    assert "row rounded: precision = bf16" in mistake(arguments(folder, rerun=True, **given), capsys)
    assert len(started) == 2
    assert len(results(folder, "rows")) == 2


@pytest.mark.parametrize(
    ("way", "group", "remedy"), [("TS", "user", "use LS or RS"), ("RS", "none", "use group_by=user")]
)
def test_a_split_along_time_of_mere_positions_is_refused_before_anything_runs(
    folder, started, capsys, way, group, remedy
):
    """The times of chains count each user's steps."""
    split = {"eval_args.split": f"{{{way}: [.8, .1, .1]}}", "eval_args.group_by": group}
    line = mistake(arguments(folder, model="Pop,SASRec", **split), capsys)
    assert f"the timestamps of chains are mere positions; {remedy}" in line
    assert not started
    assert main(arguments(folder, model="Pop,SASRec")) == 0  # nothing of it was noted as the folder's protocol


def test_a_split_along_time_of_times_runs(folder, started):
    draw = random.Random(0)
    rows = [(f"u{user}", f"i{draw.randrange(20)}", draw.randrange(10**6)) for user in range(40) for _ in range(9)]
    write_timed(folder, rows)
    run(folder, model="Pop,SASRec", dataset="timed", **{"eval_args.split": "{TS: [.8, .1, .1]}"})
    assert len(started) == 2
    assert {row for row, _ in results(folder, "timed")} == {"Pop", "SASRec"}


def test_a_protocol_noted_before_a_setting_was_part_of_it_still_holds_its_rows_together(folder, started, capsys):
    run(folder, model="Pop", seeds=1)
    file = folder / "results" / "chains" / "protocol.json"
    noted = json.loads(file.read_text())
    del noted["chains"]["eval_step"]
    file.write_text(json.dumps(noted))
    line = mistake(arguments(folder, model="Pop,SASRec", seeds=1, **{"SASRec.eval_step": 2}), capsys)
    assert "row SASRec: eval_step = 2, but 1 in the other rows" in line
    run(folder, model="Pop,SASRec", seeds=1)
    assert json.loads(file.read_text())["chains"]["eval_step"] == 1


def test_a_result_is_kept_under_the_hash_of_the_data_it_was_made_of_alone(folder, started, monkeypatch):
    change = schedule.start

    def start(*arguments):
        with (folder / "chains" / "chains.inter").open("a") as file:
            file.write("u0\ti0\t99\n")
        data_digest.cache_clear()  # which a forked trial has of the command
        return change(*arguments)

    monkeypatch.setattr(schedule, "start", start)
    text, failed = run(folder, model="Pop,BPR", seeds=1)
    assert failed == 2
    assert "code, data or property files were changed since this command began; give it again" in text
    monkeypatch.setattr(schedule, "start", change)
    assert run(folder, model="Pop,BPR", seeds=1)[1] == 0


def test_a_result_is_kept_under_the_hash_of_the_settings_it_was_made_with_alone(folder, started, monkeypatch):
    """A property file is read anew by every trial."""
    load = trial.load_settings

    def changed(*arguments, **named):
        settings = load(*arguments, **named)
        settings.config["stopping_step"] = 3
        return settings

    monkeypatch.setattr(trial, "load_settings", changed)
    text, failed = run(folder, model="Pop,BPR", seeds=1)
    assert failed == 2
    assert "code, data or property files were changed since this command began; give it again" in text
    assert not results(folder)


def test_data_may_lie_behind_a_link_of_another_name(folder, started):
    (folder / "store").mkdir()
    (folder / "chains").rename(folder / "store" / "v2")
    (folder / "chains").symlink_to(folder / "store" / "v2")
    assert run(folder, model="Pop,BPR", seeds=1)[1] == 0


def test_data_may_lie_at_a_relative_path(folder, started):
    assert run(folder, model="Pop,BPR", seeds=1, data_path=".")[1] == 0


def test_a_trial_refuses_another_device_than_the_one_in_its_hash(folder, started):
    plan = read_plan(options(folder, model="Pop", seeds=1, use_gpu=True))._replace(devices=frozenset({"cuda"}))
    (trial,) = trials_of(plan, plan.rows[0])
    assert trial.config["device"] == "cuda"
    assert trials_of(plan._replace(devices=frozenset({"cpu"})), plan.rows[0])[0].key != trial.key
    store = Store(folder / "results" / "chains")
    assert schedule.start(store.prepare(trial)).wait() == 1
    assert store.failure(trial) == "this process computes on cpu, not on cuda, as it was to"


def test_a_trial_that_cannot_be_removed_is_not_taken_for_run_again(folder, started, capsys, monkeypatch):
    run(folder, model="Pop", seeds=1)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("recbole_attn.compare.store.shutil.rmtree", refuse)
    line = mistake(arguments(folder, model="Pop", seeds=1, rerun=True), capsys)
    assert "cannot be written to (Permission denied)" in line


def test_a_row_name_twice_in_a_file_is_refused(folder, capsys):
    (folder / "rows.yaml").write_text("compare:\n  rows:\n    a: {model: Pop}\n    a: {model: BPR}\n")
    line = mistake(arguments(folder, config_files=folder / "rows.yaml"), capsys)
    assert "rows.yaml, line 4: 'a' is given twice" in line


@pytest.mark.parametrize(
    ("rows", "given", "says"),
    [
        ("a: {model: Pop, dataset: links}", {}, "dataset = links (compare.rows.a): a row's settings do not say"),
        ("a: {model: Pop}", {"model": "Pop,BPR"}, "the YAML file lists rows already (a); leave one of the two out"),
        ('"two\nlines": {model: Pop}', {}, "'two\\nlines' is no name for a row; write it in one line"),
    ],
)
def test_rows_that_say_what_would_have_no_effect_are_refused(folder, started, capsys, rows, given, says):
    (folder / "rows.yaml").write_text(f"compare: {{rows: {{{rows}}}}}".replace("\n", "\\n"))
    assert says in mistake(arguments(folder, config_files=folder / "rows.yaml", **given), capsys)
    assert not started


@pytest.mark.parametrize("model", ["LightGCN", "NGCF"])
def test_recboles_graph_models_run(folder, started, model):
    assert run(folder, model=model, seeds=1)[1] == 0


def test_a_baseline_may_be_a_number(folder, started):
    (folder / "rows.yaml").write_text("compare: {baseline: 1, rows: {1: {model: Pop}, 2: {model: BPR}}}")
    assert run(folder, config_files=folder / "rows.yaml")[1] == 0


def test_rows_that_would_be_shown_under_one_name_are_refused(folder, started, capsys):
    rows = "A: {model: AWRSR, training: sequence}, A (one pass): {model: Pop}"
    (folder / "rows.yaml").write_text(f"compare: {{rows: {{{rows}}}}}")
    line = mistake(arguments(folder, config_files=folder / "rows.yaml"), capsys)
    assert "rows A and A (one pass) would both be shown as 'A (one pass)'" in line
    assert not started


def test_a_folder_that_cannot_be_written_to_is_refused(folder, capsys):
    (folder / "results").write_text("a file, not a folder")
    line = mistake(arguments(folder, model="Pop,BPR"), capsys)
    assert "cannot be written to (Not a directory); choose another" in line


@pytest.mark.parametrize("name", [".lock", "protocol.json", "KEY"])
def test_a_file_of_the_store_that_cannot_be_written_is_one_line(folder, started, name, capsys):
    plan = read_plan(options(folder, model="Pop", seeds=1))
    store = Store(folder / "results" / "chains")
    (trial,) = trials_of(plan, plan.rows[0])
    if name == "KEY":
        store.of(trial).write_text("a file, not a folder")
    else:
        (store.folder / name).mkdir()
    line = mistake(arguments(folder, model="Pop", seeds=1), capsys)
    assert re.search(r"results = .*chains\S*: cannot be written to \((Is a directory|File exists)\)", line)
    assert not started


def test_a_second_command_in_the_same_folder_is_refused(folder, capsys):
    with Store(folder / "results" / "chains").locked():
        line = mistake(arguments(folder, model="Pop,BPR"), capsys)
    assert "another command is at work in" in line
