"""The command line, from the first word to the last: what it prints, what it leaves, what it refuses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from atomic_files import write
from runs import HEADER, command, mistake, train, write_chains

from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.cli import main

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def chains(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_ends_with_the_metrics_the_checkpoint_and_the_command_that_reuses_it(chains, capsys):
    checkpoint, printed = train(chains, capsys, model="AWRSR", dataset="chains")
    assert Path(checkpoint).is_file()
    assert Path(checkpoint).with_name("last.pth").is_file()
    assert re.search(r"test +recall +0\.\d+", printed)
    assert f"--checkpoint={checkpoint} --predict=" in printed


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "BERT4Rec", "Pop"])
def test_recboles_models_run_in_the_same_way(model, chains, capsys):
    settings = {"model": model, "dataset": "chains", "checkpoint_dir": chains / "saved"}
    words = [f"--{key}={value}" for key, value in {**settings, "data_path": chains, "epochs": 1}.items()]
    assert main([*words, "--state=ERROR", "--use_gpu=False"]) == 0
    assert "test        ndcg" in capsys.readouterr().out


def test_a_resumed_run_ends_as_the_uninterrupted_one(chains, capsys):
    whole, _ = train(chains, capsys, model="AWRSR", dataset="chains", epochs=4)
    half, _ = train(chains, capsys, model="AWRSR", dataset="chains", epochs=2)
    last = Path(half).with_name("last.pth")
    assert main([f"--resume={last}", "--epochs=4"]) == 0
    capsys.readouterr()
    ours, theirs = load_checkpoint(last), load_checkpoint(Path(whole).with_name("last.pth"))
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    assert ours["best_valid_score"] == theirs["best_valid_score"]


def test_resuming_a_finished_run_changes_nothing(chains, capsys):
    checkpoint, printed = train(chains, capsys, model="AWRSR", dataset="chains")
    before = {path: path.read_bytes() for path in Path(checkpoint).parent.iterdir()}
    assert main([f"--resume={Path(checkpoint).with_name('last.pth')}"]) == 0
    again = capsys.readouterr().out
    metrics = [line for line in printed.splitlines() if line.startswith(("validation", "test"))]
    assert metrics == [line for line in again.splitlines() if line.startswith(("validation", "test"))]
    assert {path: path.read_bytes() for path in Path(checkpoint).parent.iterdir()} == before


def test_predictions_are_lines_of_user_item_and_score(chains, capsys):
    checkpoint, _ = train(chains, capsys, model="AWRSR", dataset="chains", epochs=25, learning_rate=0.01)
    (chains / "histories.tsv").write_text("anna\ti3 i4 i5\nben\ti18 i19\n")
    assert main([f"--checkpoint={checkpoint}", "--predict=histories.tsv", "--k=2"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["anna", "anna", "ben", "ben"]
    assert (rows[0][1], rows[2][1]) == ("i6", "i0")
    assert float(rows[0][2]) > float(rows[1][2])


def test_help_lists_models_data_sets_and_where_settings_are_documented(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for word in ("AWRSR", "AttnSASRec", "BERT4Rec", "ml-1m", "overall.yaml", "--resume"):
        assert word in printed


def test_show_config_says_where_each_value_came_from(chains, capsys):
    assert main([*command(chains, model="AWRSR", dataset="chains"), "--show_config"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"hidden_size = 16 +\[command line\]", printed)
    assert re.search(r"refinement = value +\[.*AWRSR.yaml\]", printed)
    assert re.search(r"valid_metric = NDCG@10 +\[.*overall.yaml\]", printed)


@pytest.mark.parametrize("program", [["-m", "recbole_attn"], [str(ROOT / "run_recbole_attn.py")]])
def test_every_way_of_starting_it_exits_with_2_and_one_line_on_a_mistake(program, chains):
    done = subprocess.run([sys.executable, "-W", "ignore", *program, "--model=AWRS", "--dataset=chains"],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: there is no model 'AWRS': did you mean 'AWRSR'")
    assert "Traceback" not in done.stderr


REFUSED = {
    "no such model": ({"model": "AWRS"}, "did you mean 'AWRSR'"),
    "no such data set": ({"dataset": "chain"}, r"chain.inter"),
    "a misspelt setting": ({"learnig_rate": 0.1}, "did you mean 'learning_rate'"),
    "a misspelt nested setting": ({"eval_args.grup_by": "user"}, "did you mean 'eval_args.group_by'"),
    "a value of the wrong type": ({"n_layers": "two"}, "n_layers"),
    "too few layers": ({"n_layers": 0}, "n_layers"),
    "too short histories": ({"MAX_ITEM_LIST_LENGTH": 0}, "MAX_ITEM_LIST_LENGTH"),
    "heads that do not divide": ({"n_heads": 3}, "hidden_size must be a multiple of n_heads, not 16 with n_heads=3"),
    "a probability of 1": ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob"),
    "a negative probability": ({"attn_dropout_prob": -0.1}, "attn_dropout_prob"),
    "a layer that does not exist": ({"attention_layers": "[2]"}, "attention_layers must be all or a list of layers"),
    "a filter that leaves nothing": ({"user_inter_num_interval": "[100,inf)"}, "user_inter_num_interval"),
    "one pass both ways": ({"model": "BERT4Rec", "training": "sequence"}, "BERT4Rec cannot learn every position"),
    "one pass counted back": ({"training": "sequence", "index": "recent"}, "use index=start or training=prefix"),
    "one pass counted back, on STOSA": (
        {"model": "AWRSTOSA", "training": "sequence", "index": "recent"},
        "use index=start or training=prefix",
    ),
    "a refinement of another backbone": ({"refinement": "stochastic"}, "For stochastic use the model AWRSTOSA"),
    "a negative penalty": ({"model": "STOSA", "pvn_weight": -0.1}, "pvn_weight = -0.1"),
    "cross-entropy of distances": ({"model": "STOSA", "loss_type": "CE"}, "loss_type = 'CE'"),
    "an unknown preset": ({"model": "ACTSR", "preset": "cleen"}, "preset = 'cleen' .*clean | released"),
    "an unknown combination": ({"model": "ACTSR", "combine": "sum"}, "combine = 'sum' .*gate | fixed | annealing"),
    "a negative weight": ({"model": "ACTSR", "w": -1}, r"w = -1 .*float >= 0"),
    "masks of another backbone": ({"model": "ACTSR", "mask_ratio": 0.2}, "mask_ratio"),
    "cloze with pairs": ({"model": "ACBERT4Rec", "loss_type": "BPR"}, "loss_type = 'BPR'"),
    "nothing masked": ({"model": "ACBERT4Rec", "mask_ratio": 0}, "mask_ratio = 0 "),
    "all masked": ({"model": "AttnBERT4Rec", "mask_ratio": 1}, "mask_ratio = 1 "),
    "one pass of a bidirectional model": (
        {"model": "AttnBERT4Rec", "training": "sequence"},
        "training = sequence .*AttnBERT4Rec cannot learn every position .*use training=prefix",
    ),
    "one pass of transformed rows": (
        {"training": "sequence", "transform": "mask_itemseq"},
        r"transform = mask_itemseq \(command line\) changes rows of prefixes.*set it to ~, or use training=prefix",
    ),
    "files that were split before, and whole sequences": (
        {"training": "sequence", "benchmark_filename": "[train, valid, test]"},
        r"benchmark_filename = \['train', 'valid', 'test'\] brings rows of its own.*use training=prefix",
    ),
    "no items in a chunk": ({"item_chunk": 0}, r"item_chunk = 0 .* must be none \| int >= 1"),
    "no items in a chunk of the loss": ({"ce_chunk": 0}, r"ce_chunk = 0 .* must be none \| int >= 1"),
    "a metric of all scores in chunks": (
        {"item_chunk": 5, "metrics": "[NDCG,GAUC]"},
        "item_chunk = 5 .*GAUC cannot be told from the best items",
    ),
    "lists as long as items and padding": ({"topk": "[10,21]"}, "topk = .*21.*: there are only 20 items to rank"),
    "no buckets at all": ({"length_buckets": 0}, "length_buckets"),
    "an option of comparisons": ({"jobs": 2}, "jobs: has no effect on a single run"),
    "an option of the analysis": ({"users": "u1"}, "users: has no effect on a single run"),
    "recommendations of several models": (
        {"model": "Pop,AWRSR", "predict": "histories.tsv"},
        "checkpoint: missing; to recommend, give both --predict=FILE and --checkpoint=PATH",
    ),
    "no such checkpoint": ({"resume": "nowhere.pth"}, "nowhere.pth"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_one_line_that_names_it(case, chains, capsys):
    settings, message = REFUSED[case]
    line = mistake(command(chains, **{"model": "AWRSR", "dataset": "chains", **settings}), capsys)
    assert re.search(message, line), line


@pytest.mark.parametrize("setting", ["attention_layers=[2]", "n_heads=3", "index=recent --training=sequence"])
def test_what_a_model_refuses_is_found_before_data_is_read(setting, chains, capsys):
    words = [*command(chains, model="AWRSR", dataset="nowhere"), *f"--{setting}".split()]
    assert "AWRSR: " in mistake(words, capsys)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"broken.inter"),
        ([("user_id", "item_id", "timestamp")], r"broken.inter, line 1"),
        ([HEADER, ("u1", "i1", 1), ("u1", "i2")], r"broken.inter, line 3"),
        ([HEADER, ("u1", "i1", 1), ("u1", "i2", "noon")], r"broken.inter, line 3"),
        ([HEADER[:2], ("u1", "i1"), ("u1", "i2")], r"timestamp"),
    ],
    ids=["empty", "header without types", "too few columns", "not a number", "no time"],
)
def test_a_malformed_file_is_named_with_its_line(rows, message, chains, capsys):
    write(chains, rows, name="broken")
    line = mistake(command(chains, model="AWRSR", dataset="broken"), capsys)
    assert re.search(message, line), line


def test_checkpoints_that_do_not_fit_are_refused(chains, capsys):
    checkpoint, _ = train(chains, capsys, model="AWRSR", dataset="chains", epochs=1)
    last = Path(checkpoint).with_name("last.pth")
    write_chains(chains, items=25, name="others")
    assert "of another model" in mistake([f"--resume={last}", "--model=AttnSASRec"], capsys)
    assert "of another data set" in mistake([f"--resume={last}", "--dataset=others"], capsys)
    write_chains(chains, items=25)
    assert "(21, 16) in the checkpoint and (26, 16) here" in mistake([f"--resume={last}", "--epochs=2"], capsys)
    for column in (chains / "chains").glob("*.inter"):  # from here on data cannot be read, and need not be
        column.unlink()
    assert "give the run's last.pth" in mistake([f"--resume={checkpoint}"], capsys)
    (chains / "more.yaml").write_text("epochs: 9\n")
    line = mistake([f"--resume={last}", f"--config_files={chains / 'more.yaml'}"], capsys)
    assert "config_files: has no effect on --resume" in line
    (chains / "cut.pth").write_bytes(last.read_bytes()[:-500])
    assert "truncated" in mistake(["--resume=cut.pth"], capsys)
    (chains / "text.pth").write_text("hello")
    for option in ("--resume=text.pth", "--checkpoint=text.pth --predict=x"):
        assert "not a checkpoint" in mistake(option.split(), capsys)


@pytest.mark.parametrize("change", ["scale=sqrt_n", "refinement=simple", "index=recent", "attention_layers=[]"])
def test_a_resumed_run_keeps_its_mechanism(chains, capsys, change):
    """Parameters of the same names and shapes do not make the same model."""
    checkpoint, _ = train(chains, capsys, model="AWRSR", dataset="chains", epochs=1)
    last = Path(checkpoint).with_name("last.pth")
    line = mistake([f"--resume={last}", "--epochs=2", f"--{change}"], capsys)
    assert change.partition("=")[0] in line or "does not fit the model" in line
    assert main([f"--resume={last}", "--epochs=2", "--hidden_dropout_prob=0.3", "--learning_rate=0.002"]) == 0


def test_a_loss_that_becomes_nan_says_where_and_what_to_try(chains, capsys):
    settings = {"learning_rate": 1e30, "learner": "sgd"}
    line = mistake(command(chains, model="AWRSR", dataset="chains", **settings), capsys)
    assert re.search(r"epoch 0, batch \d+: .*learning_rate", line), line


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_resume(chains, capsys, monkeypatch):
    def interrupt(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_attn.trainer.AttnTrainer._valid_epoch", interrupt)
    line = mistake(command(chains, model="AWRSR", dataset="chains"), capsys)
    last = re.search(r"--resume=(\S+)", line).group(1)
    monkeypatch.undo()
    monkeypatch.chdir(chains)
    assert main([f"--resume={last}"]) == 0


def test_a_full_disk_stops_cleanly_and_keeps_the_last_checkpoint(chains, capsys, monkeypatch):
    replace, calls = os.replace, []

    def full(source, target):
        calls.append(target)
        if len(calls) > 3:  # last, best and last of epoch 0 were written; best of epoch 1 is not
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("recbole_attn.writing.os.replace", full)
    line = mistake(command(chains, model="AWRSR", dataset="chains"), capsys)
    assert "No space left on device" in line
    kept = re.search(r"--resume=(\S+)", line).group(1)
    monkeypatch.undo()
    monkeypatch.chdir(chains)
    assert load_checkpoint(kept)["epoch"] == 0
    assert main([f"--resume={kept}"]) == 0
    capsys.readouterr()
    whole, _ = train(chains, capsys, model="AWRSR", dataset="chains")
    resumed, expected = load_checkpoint(kept), load_checkpoint(Path(whole).with_name("last.pth"))
    assert all(torch.equal(resumed["state_dict"][name], value) for name, value in expected["state_dict"].items())


def test_results_do_not_depend_on_what_ran_before_in_the_process(chains, capsys):
    first, second = (train(chains, capsys, model="AWRSR", dataset="chains")[1] for _ in range(2))
    tables = [[line for line in printed.splitlines() if line.startswith("test")] for printed in (first, second)]
    assert tables[0] == tables[1]


def test_the_command_line_survives_a_round_trip_through_json(chains, capsys):
    """Values with `=`, blanks and brackets arrive as they were typed."""
    words = command(chains, model="AWRSR", dataset="chains", user_inter_num_interval="[3,inf)")
    assert main([*words, "--metrics", json.dumps(["Recall", "NDCG"]), "--show_config"]) == 0
    printed = capsys.readouterr().out
    assert "metrics = ['Recall', 'NDCG']" in printed
    assert "user_inter_num_interval = [3,inf)" in printed
