"""What the benchmarks compute from what they measure."""

import argparse
import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from runs import train, write_chains

from recbole_attn.checkpoint import load_checkpoint, save_atomically
from recbole_attn.compare.ranks import Ranks

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import against
import attacker
import gate
import goals
import kept
import one_epoch
import scaling
import train_step


def test_a_power_law_has_its_exponent():
    points = [scaling.Point("length", "M", "train ms", size, 3 * size**1.5) for size in (25, 50, 400)]
    assert scaling.exponent(points) == pytest.approx(1.5)


def test_a_goal_is_reached_or_not_by_the_ratio_of_two_rows():
    fast, slow = ("ml-1m", "AttnSASRec:training=sequence"), ("ml-1m", goals.RELEASED)
    for ratio, verdict in ((25.0, "reached"), (24.9, "**not reached**")):
        (line,) = goals.verdicts({slow: {"epoch_s": ratio}, fast: {"epoch_s": 1.0}})
        assert line.endswith(f"{ratio}, goal 25: {verdict}")


def test_the_gate_of_one_pass_compares_best_validations(tmp_path):
    best = {"AttnSASRec": 0.1, "AttnSASRec (one pass)": 0.0971, "FAIR (one pass)": 0.2}
    head = "dataset,row,model,seed,status,metric,validation,folder"
    lines = [f"d,{row},{row.split()[0]},1,done,ndcg@10,{value},{at}" for at, (row, value) in enumerate(best.items())]
    (tmp_path / "results.csv").write_text("\n".join([head, *lines]))
    for at, value in enumerate(best.values()):
        (tmp_path / str(at)).mkdir()
        epochs = [
            {"train_seconds": 50, "valid_seconds": 10, "valid_result": {"ndcg@10": part * value}} for part in (0.5, 1)
        ]
        (tmp_path / str(at) / "result.json").write_text(json.dumps({"history": epochs}))
    (line,) = gate.verdicts(tmp_path / "results.csv")
    assert line == "| d | AttnSASRec | 0.1000 | 0.0971 | 97.1% | 2.0 (1 of 1) | 2.0 (1 of 1) | reached |"
    (tmp_path / "results.csv").write_text("\n".join([head, *lines]).replace("0.0971", "0.0969"))
    (line,) = gate.verdicts(tmp_path / "results.csv")
    assert line.endswith("| **not reached** |")


def write_trial(folder, row, seed, values):
    """A finished trial in which user u has `values[u]` of every metric."""
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"row": row, "seed": seed}))
    users = np.arange(len(values)).astype(str)
    nothing = np.zeros(len(values), int)
    ranks = Ranks(
        users, users, nothing, nothing, nothing, nothing, metrics=dict.fromkeys(against.METRICS, np.array(values))
    )
    (folder / "ranks.npz").write_bytes(ranks.to_bytes())


def test_rows_are_held_against_another_baseline_over_all_their_seeds(tmp_path):
    for seed, better in enumerate((0.1, 0.3)):
        write_trial(tmp_path / f"low{seed}", "low", seed, [0.1, 0.2, 0.4])
        write_trial(tmp_path / f"high{seed}", "high", seed, [0.1 + better, 0.2 + better, 0.4 + better + 0.03])
    lines = against.table(against.read(tmp_path), "low")[2:]
    assert [line.split(" | ")[1:4] for line in lines] == [["2", metric, "+0.2100"] for metric in against.METRICS]
    write_trial(tmp_path / "grid", "low", 0, [0.1, 0.2, 0.4])
    with pytest.raises(ValueError, match="row low has two trials of seed 0"):
        against.read(tmp_path)


def test_the_gate_names_results_that_are_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gate.py", str(tmp_path / "results.csv")])
    with pytest.raises(SystemExit, match="2"):
        gate.main()
    assert f"results = {tmp_path / 'results.csv'}: no such file" in capsys.readouterr().err


def test_a_goal_of_a_step_is_the_median_ratio_of_the_turns():
    turns = {"ACTSR": {"train_ms": [150.0, 400.0, 290.0]}, "SASRec": {"train_ms": [100.0, 200.0, 200.0]}}
    for row in turns.values():
        row.update(train_mib=[1.0], eval_ms=[1.0])
    step, *others = goals.step_verdicts(50, turns)
    assert step == "training step, ACTSR / SASRec = 1.50 (1.45–2.00), goal at most 1.5: reached"
    assert len(others) == 2 and goals.step_verdicts(200, turns) == []
    turns["ACTSR"]["train_ms"][0] = 151.0
    assert goals.step_verdicts(50, turns)[0].endswith("goal at most 1.5: **not reached**")


def step_row(model: str, ms: float) -> train_step.Row:
    turns = {f"{phase}_{name}": [ms, 2 * ms, 3 * ms] for phase in train_step.PHASES for name in train_step.MEASURES}
    return train_step.Row(model, 2, 50, 1234, turns)


def test_a_step_is_compared_with_sasrec_with_our_dropout_and_with_its_own_backbone():
    speeds = {"SASRec": 10, "SASRec:fast_dropout=True": 8, "STOSA": 40, "AWRSTOSA:refinement=value": 44, "AWRSR": 12}
    lines = train_step.table([step_row(model, ms) for model, ms in speeds.items()], "train").splitlines()
    cells = {line.split(" | ")[0][2:]: line.split(" | ")[1:] for line in lines if line.startswith("| ")}
    assert cells["AWRSTOSA:refinement=value"][:5] == ["1,234", "88 (44–132)", "4.40", "5.50", "1.10"]
    assert cells["AWRSR"][2:5] == ["1.20", "1.50", "–"]  # AttnSASRec is not there


def test_the_tables_hold_what_the_goals_of_steps_compare():
    for goal in goals.STEP_GOALS:
        assert any({goal.row, goal.base} <= set(models) for models in train_step.TABLES.values())


def test_a_row_of_whole_sequences_is_refused_where_prefix_steps_are_measured():
    assert train_step.refusal(["SASRec", "AWRSR:refinement=value"]) is None
    text = train_step.refusal(["SASRec", "AWRSR:refinement=value,training=sequence"])
    assert text.startswith("AWRSR:refinement=value,training=sequence: ") and "\n" not in text


def test_the_product_of_two_maps_is_timed_at_each_length():
    points = scaling.of_product(argparse.Namespace(lengths=[2, 4], threads=1, steps=2))
    assert [(point.size, point.model) for point in points] == [(2, scaling.PRODUCT), (4, scaling.PRODUCT)]
    assert all(point.value > 0 for point in points)


def test_a_row_names_a_model_a_way_and_settings():
    assert one_epoch.parse("SASRec@released") == ("SASRec", "released", {})
    assert one_epoch.parse("A:x=1,y=~") == ("A", "plugin", {"x": "1", "y": "~"})


def test_only_so_many_batches_are_taken_and_the_rest_is_the_loaders():
    class Loader(list):
        shuffle = True

    class Watch:
        __enter__ = __exit__ = lambda self, *_: None

    steps = one_epoch.Steps(Loader(range(9)), 4, Watch())
    assert (list(steps), steps.taken, steps.shuffle, len(steps)) == ([0, 1, 2, 3], 4, True, 4)
    steps = one_epoch.Steps(Loader(range(3)), 4, Watch())
    assert (list(steps), steps.taken, len(steps)) == ([0, 1, 2], 3, 3)


def test_scaling_over_users_measures_each_model_on_a_log_of_each_size(monkeypatch):
    phases = ("prepare_s", "epoch_s", "eval_s")
    monkeypatch.setattr(
        scaling.epochs, "in_own_process", lambda spec: {**dict.fromkeys(phases, 1.0), "of": spec["steps"]}
    )
    args = argparse.Namespace(users=[50, 100], models=["AttnSASRec"], steps=2, repeats=1, threads=1)
    points = scaling.of_users(args, lambda key, make: make())
    assert [(point.size, point.value) for point in points] == [(50, 1.0)] * 3 + [(100, 1.0)] * 3


def test_an_attacker_that_takes_the_same_of_each_weight_moves_no_map(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_chains(tmp_path)
    path, _ = train(tmp_path, capsys, model="ACTSR", dataset="chains", epochs=1, keep_start=0.9)
    trained = attacker.measure(path)
    assert len(trained) == 2 and all(0 < layer.taken < 1 and layer.moved > 0 for layer in trained)
    checkpoint = load_checkpoint(path)
    for name, weights in checkpoint["state_dict"].items():
        if "adversary" in name:
            weights.zero_()
    save_atomically(checkpoint, path)
    assert all(layer == pytest.approx((0.1, 0.0), abs=1e-6) for layer in attacker.measure(path))


def test_epochs_that_were_stopped_go_on_where_they_were(tmp_path, monkeypatch):
    made, names = [], ("threads", "steps", "bucket_steps", "warm_up", "settings")
    args = argparse.Namespace(**dict.fromkeys(names), data_path="", repeats=2)

    def measure(spec):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(spec["row"])
        return {"epoch_s": float(len(made))}

    monkeypatch.setattr(scaling.epochs, "in_own_process", measure)
    with pytest.raises(KeyboardInterrupt):
        scaling.epochs.take_turns(args, "d", ["a", "b"], "cpu", kept.keeping(tmp_path / "kept.json", {}))
    monkeypatch.setattr(scaling.epochs, "in_own_process", lambda spec: {"epoch_s": 9.0})
    keep = kept.keeping(tmp_path / "kept.json", {})
    found = scaling.epochs.take_turns(args, "d", ["a", "b"], "cpu", keep)
    assert (made, found) == (["a", "b", "a"], {"a": {"epoch_s": 2.0}, "b": {"epoch_s": 5.5}})


def test_kept_runs_are_read_again_only_with_what_they_were_made_with(tmp_path):
    file, args = tmp_path / "study.json", argparse.Namespace(rows=["a"], steps=5)
    settings, rows = kept.settings_of(args, {"rows"}, task=(1, 2)), {"a": {"width": 3}}
    assert settings == {"steps": 5, "task": (1, 2)}
    assert kept.earlier(file, settings, rows) == {}
    kept.save(file, {"a": 1.5}, settings, rows)
    assert kept.earlier(file, settings, {"b": {"width": 4}}) == {"a": 1.5}
    for changed, row, text in (
        ({**settings, "steps": 6}, rows, "steps=5, not 6; choose another --name"),
        ({**settings, "new": 1}, rows, "new=nothing, not 1"),
        ({"steps": 5}, rows, r"task=\[1, 2\], not nothing"),
        (settings, {"a": {"width": 4}}, "a={'width': 3}, not {'width': 4}"),
    ):
        with pytest.raises(SystemExit, match=text):
            kept.earlier(file, changed, row)


def test_a_row_that_is_not_run_again_stays_known(tmp_path):
    file = tmp_path / "study.json"
    kept.save(file, {"a": 1}, {}, {"a": {"width": 3}})
    kept.save(file, {"a": 1, "b": 2}, {}, {"b": {"width": 3}})
    with pytest.raises(SystemExit, match="a="):
        kept.earlier(file, {}, {"a": {"width": 5}})


def test_vectors_of_an_encoder_stand_beside_the_ids_of_their_items(tmp_path, monkeypatch):
    """With an encoder that counts a text's letters; a title may hold what ends a line elsewhere."""
    (tmp_path / "shop").mkdir()
    rows = ["item_id:token\ttitle:token_seq\tprice:float", "b\tred\u2028lipstick\t5", "a\tsoap\t", "b\tagain\t1"]
    (tmp_path / "shop" / "shop.item").write_text("\n".join(rows), encoding="utf-8")
    seen = []

    class Encoder:
        def load(self, **given):
            return self

        def embed(self, texts, norm):
            seen.extend(texts)
            return np.array([[len(text), norm] for text in texts])

    stub = SimpleNamespace(WordLlama=Encoder(), __file__=str(tmp_path / "wordllama.py"))
    monkeypatch.setitem(sys.modules, "wordllama", stub)
    monkeypatch.setattr(sys, "argv", ["encode_items.py", "--dataset=shop", f"--data_path={tmp_path}"])
    monkeypatch.chdir(tmp_path)
    runpy.run_module("encode_items", run_name="__main__")
    with np.load(tmp_path / "saved" / "shop-wordllama.npz") as found:
        assert found["ids"].tolist() == ["b", "a"]
        assert found["vectors"].tolist() == [[len(seen[0]), 1], [len(seen[1]), 1]]
    assert seen == ["title: red\u2028lipstick. price: 5", "title: soap"]
