"""Recommendations from a checkpoint, for users that the model has never seen."""

import logging
import shutil

import pytest
import torch
from recbole.utils import ModelType
from runs import SMALL, mistake, write_chains

from recbole_attn import recommend
from recbole_attn.cli import main
from recbole_attn.config.names import recbole_models
from recbole_attn.config.settings import load_settings
from recbole_attn.errors import UserError
from recbole_attn.recommender import Recommender, ranks_histories, read_histories
from recbole_attn.run import run

TYPES = {"sequential": ModelType.SEQUENTIAL, "general": ModelType.GENERAL}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of the rule "item n is followed by n + 1", and checkpoints of three models trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    write_chains(folder)
    places = {"data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "dataset": "chains"}
    users_only = {key: SMALL[key] for key in ("show_progress", "use_gpu", "state")}
    attention = {**SMALL, "epochs": 25, "learning_rate": 0.01}
    checkpoints = {}
    for model, values in {"AWRSR": attention, "SASRec": attention, "BPR": {**users_only, "epochs": 1}}.items():
        checkpoints[model] = run(load_settings(model, config_dict={**values, **places}).config).checkpoint
    return folder, checkpoints


@pytest.mark.parametrize("model", ["AWRSR", "SASRec"])
def test_the_next_item_comes_first_with_descending_scores(model, trained):
    best = recommend(trained[1][model], {"anna": ["i3", "i4", "i5"], "ben": ["i19"]}, k=3)
    assert best["anna"][0].item == "i6"
    assert best["ben"][0].item == "i0"
    assert [r.score for r in best["anna"]] == sorted((r.score for r in best["anna"]), reverse=True)
    assert len(best["anna"]) == 3


def test_our_models_need_no_data_set(trained, tmp_path):
    shutil.copy(trained[1]["AWRSR"], tmp_path / "alone.pth")
    shutil.move(trained[0] / "chains", trained[0] / "hidden")
    try:
        assert recommend(tmp_path / "alone.pth", {"anna": ["i3", "i4"]}, k=1)["anna"][0].item == "i5"
    finally:
        shutil.move(trained[0] / "hidden", trained[0] / "chains")


def test_a_baseline_over_data_numbered_otherwise_is_refused(trained, tmp_path):
    """Its data set is read again, and its items must still be those it was trained on."""
    path = trained[0] / "chains" / "chains.inter"
    header, *rows = path.read_text().splitlines(keepends=True)
    kept = path.read_text()
    path.write_text(header + "".join(reversed(rows)))
    try:
        with pytest.raises(UserError, match="of another data set"):
            Recommender(trained[1]["SASRec"])
    finally:
        path.write_text(kept)


def test_seen_items_come_back_unless_they_are_excluded(trained):
    history = ["i5", "i3", "i4", "i3", "i4"]
    everything = recommend(trained[1]["AWRSR"], {"anna": history}, k=100)["anna"]
    unseen = recommend(trained[1]["AWRSR"], {"anna": history}, k=100, exclude_seen=True)["anna"]
    assert len(everything) == 20
    assert everything[0].item == "i5"
    assert {r.item for r in everything} - {r.item for r in unseen} == set(history)


def test_unknown_items_are_counted_reported_and_skipped(trained, caplog):
    with caplog.at_level(logging.WARNING):
        best = recommend(trained[1]["AWRSR"], {"anna": ["i3", "new", "i4"], "ben": ["newer"], "carl": []}, k=1)
    assert best["anna"] == recommend(trained[1]["AWRSR"], {"anna": ["i3", "i4"]}, k=1)["anna"]
    assert best["ben"] == best["carl"] == []
    assert "2 of 4 items are unknown" in caplog.text
    assert "2 of 3 histories hold no known item" in caplog.text


def test_the_answer_does_not_depend_on_the_company(trained):
    recommender = Recommender(trained[1]["AWRSR"])
    together = recommender.recommend({str(n): [f"i{n % 20}", f"i{(n + 1) % 20}"] for n in range(300)}, k=2)
    for user in ("0", "255", "256", "299"):
        n = int(user)
        alone = recommender.recommend({"x": [f"i{n % 20}", f"i{(n + 1) % 20}"]}, k=2)["x"]
        assert [r.item for r in alone] == [r.item for r in together[user]]
        torch.testing.assert_close([r.score for r in alone], [r.score for r in together[user]], rtol=1e-4, atol=1e-5)


def test_a_long_history_counts_by_its_last_items(trained):
    long = [f"i{n % 20}" for n in range(45)]
    short = recommend(trained[1]["AWRSR"], {"x": long[-8:]}, k=5)
    assert recommend(trained[1]["AWRSR"], {"x": long}, k=5) == short


def test_a_model_that_knows_users_only_is_refused(trained):
    with pytest.raises(UserError, match="BPR does not rank all items by a history alone"):
        Recommender(trained[1]["BPR"])


@pytest.mark.parametrize("kind", ["sequential", "general"])
def test_models_that_ask_for_more_than_a_history_are_known(kind):
    """Of RecBole's sequential models, those that read the user, or score one item at a time."""
    names = [name for name, found in recbole_models().items() if found == kind]
    ranking = {name for name in names if ranks_histories({"model": name, "MODEL_TYPE": TYPES[kind]})}
    others = {"Caser", "DIEN", "DIN", "FOSSIL", "FPMC", "HGN", "HRM", "NPE", "SHAN", "TransRec"}
    assert ranking == (set(names) - others if kind == "sequential" else set())


def test_a_run_offers_recommendations_only_where_it_can_make_them(trained, capsys):
    places = {"data_path": trained[0], "checkpoint_dir": trained[0] / "saved", "dataset": "chains", "epochs": 1}
    for model, offered in (("AttnSASRec", True), ("FPMC", False)):
        assert main([f"--{key}={value}" for key, value in {**places, "model": model}.items()]) == 0
        printed = capsys.readouterr().out
        assert ("use it " in printed) == offered
    (checkpoint,) = [line.split()[1] for line in printed.splitlines() if line.startswith("checkpoint")]
    (trained[0] / "h.tsv").write_text("anna\ti1\n")
    line = mistake([f"--checkpoint={checkpoint}", f"--predict={trained[0] / 'h.tsv'}"], capsys)
    assert "FPMC does not rank all items by a history alone; recommend with another sequential model" in line


def test_a_baseline_is_told_where_its_data_lie_now(trained, tmp_path, capsys):
    (tmp_path / "h.tsv").write_text("anna\ti3 i4\n")
    words = [f"--checkpoint={trained[1]['SASRec']}", f"--predict={tmp_path / 'h.tsv'}", "--k=1"]
    shutil.move(trained[0] / "chains", tmp_path / "chains")
    try:
        assert "its files belong in" in mistake(words, capsys)
        assert main([*words, f"--data_path={tmp_path}"]) == 0
        assert capsys.readouterr().out.startswith("anna\ti5\t")
    finally:
        shutil.move(tmp_path / "chains", trained[0] / "chains")


def test_k_below_one_is_refused(trained):
    with pytest.raises(UserError, match="k=0"):
        recommend(trained[1]["AWRSR"], {"x": ["i1"]}, k=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anna i1 i2\n", "line 1: no tab"),
        ("anna\ti1\nanna\ti2\n", "line 2: user anna comes twice"),
        ("", "holds no history; each line is user<tab>items"),
    ],
)
def test_a_malformed_file_of_histories_is_named_with_its_line(text, message, tmp_path):
    (tmp_path / "h.tsv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_histories(tmp_path / "h.tsv")


def test_a_missing_half_of_the_command_is_named(capsys):
    assert "checkpoint" in mistake(["--predict=histories.tsv"], capsys)
    assert "predict" in mistake(["--checkpoint=best.pth"], capsys)
    assert "nowhere" in mistake(["--checkpoint=nowhere", "--predict=nowhere"], capsys)


def test_what_has_no_effect_on_a_prediction_is_refused(trained, tmp_path, capsys):
    (tmp_path / "h.tsv").write_text("anna\ti1\n")
    words = [f"--checkpoint={trained[1]['AWRSR']}", f"--predict={tmp_path / 'h.tsv'}"]
    assert "lerning_rate: has no effect on --predict" in mistake([*words, "--lerning_rate=3"], capsys)
    assert "of another model" in mistake([*words, "--model=SASRec"], capsys)
    assert "of another data set" in mistake([*words, "--dataset=ml-1m"], capsys)
