"""Cheaper ways to compute a step: bfloat16, compiled, cheaper dropout. The numbers stay, to stated tolerances."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from comparisons import fork_trials
from recbole.utils import get_model
from runs import SMALL, command, mistake, write_chains
from test_models import Catalogue, batch, build, settings
from torch import nn

from recbole_attn import acceleration
from recbole_attn.acceleration import choose_dropout, fuse_gelu, train_in_bf16
from recbole_attn.cli import main
from recbole_attn.compiling import can_hold_operators, compile_training, missing
from recbole_attn.config.settings import load_settings
from recbole_attn.cross_entropy import chunked_cross_entropy
from recbole_attn.dropout import Dropout
from recbole_attn.errors import UserError
from recbole_attn.model import MODELS
from recbole_attn.run import run

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
BF16 = acceleration.has_bf16(torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("chains")
    write_chains(path)
    return path


def result(folder, model, resume=None, **changes):
    values = {**SMALL, "data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "epochs": 2, **changes}
    return run(load_settings(model, "chains", config_dict=values).config, resume)


def numbers(found):
    return found.test, found.valid, [epoch.train_loss for epoch in found.history]


def learn(model, interaction):
    """The loss, as one number, and all gradients."""
    torch.manual_seed(5)
    losses = model.train().calculate_loss(interaction)
    loss = sum(losses) if isinstance(losses, tuple) else losses
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


# bfloat16


@pytest.mark.skipif(not BF16, reason="this processor has no bfloat16")
@pytest.mark.parametrize("model", ["AttnSASRec", "ACTSR", "AWRSR", "SASRec"])
def test_an_epoch_in_bf16_has_the_losses_of_float32_to_a_percent(folder, model):
    changes = {**NO_DROPOUT, "epochs": 1}
    changes |= {"train_neg_sample_args": None} if model == "SASRec" else {}
    plain, rounded = (result(folder, model, precision=kind, **changes) for kind in ("float32", "bf16"))
    assert rounded.history[0].train_loss == pytest.approx(plain.history[0].train_loss, rel=0.01)
    assert rounded.history[0].train_loss != plain.history[0].train_loss


@pytest.mark.parametrize("name", MODELS)
def test_gradients_in_bf16_are_those_of_float32_to_a_tenth(name):
    changes = {**NO_DROPOUT, "use_adversarial": False}
    plain, rounded = build(name, **changes), build(name, **changes)
    train_in_bf16(rounded, "cpu")
    (loss, expected), (rough, found) = learn(plain, batch()), learn(rounded, batch())
    torch.testing.assert_close(rough.float(), loss, rtol=0.01, atol=0)
    assert found.keys() == expected.keys()
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    whole, exact = (torch.cat([g[name].flatten() for name in expected]) for g in (found, expected))
    assert (whole - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("loss_type", ["CE", "BPR", "SSM", "gBCE"])
def test_a_loss_is_float32_whatever_its_scores_are(loss_type):
    model = build("AttnSASRec", loss_type=loss_type)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.train().calculate_loss(batch()).dtype == torch.float32


def test_scores_stay_in_float32_where_bf16_would_tie_them():
    model = build("AttnSASRec").eval()
    exact = model.full_sort_predict(batch())
    train_in_bf16(model, "cpu")
    torch.testing.assert_close(model.full_sort_predict(batch()), exact, rtol=0, atol=0)


def test_cross_entropy_in_chunks_is_computed_in_float32_under_autocast():
    torch.manual_seed(0)
    states, items = torch.randn(8, 16).bfloat16(), torch.randn(30, 16, requires_grad=True)
    target = torch.randint(30, (8,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = chunked_cross_entropy(states, items, target, 7)
    expected = nn.functional.cross_entropy(states.float() @ items.T, target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, items), torch.autograd.grad(expected, items))


# Compiled

needs_operators = pytest.mark.skipif(not can_hold_operators(), reason="torch is older than 2.4")
needs_compiler = pytest.mark.skipif(missing(torch.device("cpu")) is not None, reason="no C++ compiler")


@needs_operators
@pytest.mark.parametrize(
    ("name", "changes", "backend"),
    [
        *((name, {}, "aot_eager") for name in ("AttnSASRec", "ACTSR", "AWRSR", "AWRSTOSA", "FAIR")),
        ("ACTSR", {"combine": "annealing", "attacked_layers": "all"}, "aot_eager"),
        pytest.param("AWRSR", NO_DROPOUT, "inductor", marks=needs_compiler),  # it draws dropout otherwise
    ],
)
def test_a_compiled_model_has_the_loss_and_the_gradients_of_an_eager_one(name, changes, backend):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager, compiled = build(name, n_layers=1, **changes), build(name, n_layers=1, **changes)
    compile_training(compiled.encoder, backend=backend)
    # A graph of the whole length is one of its own, and takes as long again to make.
    for length in (10, 7) if name == "AttnSASRec" else (9, 7):
        (loss, expected), (same, found) = learn(eager, batch(length)), learn(compiled, batch(length))
        torch.testing.assert_close(same, loss, rtol=1e-5, atol=1e-6)
        for key, gradient in expected.items():
            torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] and not torch._dynamo.utils.counters["graph_break"]
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    scores = [model.eval().full_sort_predict(batch()) for model in (eager, compiled)]
    torch.testing.assert_close(*scores, rtol=0, atol=0)


@needs_operators
def test_compiled_dropout_draws_what_eager_dropout_draws_each_time_anew():
    torch._dynamo.reset()
    dropout, x = Dropout(0.5), torch.randn(60, 5, requires_grad=True)

    def twice(x):
        return dropout(x) + dropout(2 * x)

    compiled = torch.compile(twice, backend="aot_eager", dynamic=True, fullgraph=True)
    torch.manual_seed(0)
    expected = [twice(x), twice(x)]
    torch.manual_seed(0)
    found = [compiled(x), compiled(x)]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert len((found[0] / x).detach().round().unique()) == 4  # the two masks of a call differ
    found[0].sum().backward()
    torch.testing.assert_close(x.grad * x, found[0])


# Cheap dropout


def recboles(name="SASRec", **changes):
    torch.manual_seed(4)
    return get_model(name)(settings("AttnSASRec", **changes), Catalogue())


def kinds(model):
    return {type(module) for module in model.modules() if isinstance(module, (Dropout, nn.Dropout))}


def test_recboles_models_keep_torchs_dropout_and_ours_keep_ours_unless_told_otherwise():
    for model, own, other, fast in (
        (recboles(), nn.Dropout, Dropout, True),
        (build("ACTSR"), Dropout, nn.Dropout, False),
    ):
        choose_dropout(model, None)
        assert kinds(model) == {own}
        chances = [m.p for m in model.modules() if isinstance(m, own)]
        choose_dropout(model, fast)
        assert kinds(model) == {other}
        assert [m.p for m in model.modules() if isinstance(m, other)] == chances


def test_cheap_dropout_changes_no_score_and_no_weight_and_has_the_same_mean_loss():
    plain, cheap = recboles(), recboles()
    choose_dropout(cheap.eval(), True)
    assert plain.state_dict().keys() == cheap.state_dict().keys()
    torch.testing.assert_close(cheap.full_sort_predict(batch()), plain.eval().full_sort_predict(batch()))
    means = []
    for model in (plain, cheap):
        torch.manual_seed(0)
        model.train()
        means.append(torch.stack([model.calculate_loss(batch()).detach() for _ in range(200)]).mean())
    torch.testing.assert_close(*means, rtol=0.002, atol=0)


BASELINE = {"train_neg_sample_args": None}


def test_without_dropout_a_baseline_has_the_same_metrics_with_either_generator(folder):
    none = {**NO_DROPOUT, **BASELINE}
    assert numbers(result(folder, "SASRec", fast_dropout=True, **none)) == numbers(result(folder, "SASRec", **none))


def test_a_baseline_with_cheap_dropout_is_reproducible_and_resumes_exactly(folder):
    whole = result(folder, "SASRec", fast_dropout=True, **BASELINE)
    assert numbers(result(folder, "SASRec", fast_dropout=True, **BASELINE)) == numbers(whole)
    assert numbers(result(folder, "SASRec", **BASELINE)) != numbers(whole)
    half = result(folder, "SASRec", fast_dropout=True, epochs=1, **BASELINE)
    last = half.checkpoint.replace("best.pth", "last.pth")
    assert numbers(result(folder, "SASRec", last, fast_dropout=True, **BASELINE)) == numbers(whole)


# GELU


def test_recboles_models_compose_their_gelu_unless_told_otherwise_and_compute_the_same_with_pytorchs(folder):
    composed, fused = recboles(), recboles()
    fuse_gelu(fused)
    for model, ours in ((composed, False), (fused, True)):
        found = {layer.intermediate_act_fn == nn.functional.gelu for layer in model.modules() if is_feed_forward(layer)}
        assert found == {ours}
    (loss, gradients), (other, theirs) = learn(composed, batch()), learn(fused, batch())
    torch.testing.assert_close(other, loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(theirs, gradients, rtol=1e-4, atol=1e-6)


def test_another_activation_of_a_baseline_stays():
    model = recboles(hidden_act="relu")
    fuse_gelu(model)
    assert all(layer.intermediate_act_fn == nn.functional.relu for layer in model.modules() if is_feed_forward(layer))


def test_the_setting_reaches_a_baselines_layers_and_its_metrics_stay(folder, monkeypatch):
    calls = []
    monkeypatch.setattr(acceleration, "fuse_gelu", lambda model: (calls.append(model), fuse_gelu(model)))
    none = {**NO_DROPOUT, **BASELINE}
    plain = result(folder, "SASRec", **none)
    assert not calls
    fused = result(folder, "SASRec", fast_gelu=True, **none)
    assert len(calls) == 1
    assert (fused.test, fused.valid) == (plain.test, plain.valid)


def is_feed_forward(layer):
    return hasattr(layer, "intermediate_act_fn")


# Refusals


def refusal(folder, capsys, model="AttnSASRec", **changes):
    return mistake([f"--model={model}", "--dataset=chains", *command(folder, **changes)], capsys)


def test_bf16_is_refused_where_the_device_has_none(folder, capsys, monkeypatch):
    monkeypatch.setattr(acceleration, "has_bf16", lambda device: False)
    line = refusal(folder, capsys, precision="bf16")
    assert "precision = bf16: this processor has no bfloat16 products; use precision=float32" in line


def test_recboles_mixed_precision_is_refused_on_a_cpu_without_bf16(folder, capsys, monkeypatch):
    monkeypatch.setattr(acceleration, "has_bf16", lambda device: False)
    line = refusal(folder, capsys, enable_amp=True)
    assert "enable_amp = True: this processor has no bfloat16 products; use enable_amp=False" in line


@pytest.fixture
def imitated(monkeypatch):
    """bfloat16 on any processor, however slow."""
    monkeypatch.setattr(acceleration, "has_bf16", lambda device: True)


def of_recbole(folder, model, **changes):
    values = {"data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "use_gpu": False, "state": "ERROR"}
    values |= {"MAX_ITEM_LIST_LENGTH": 8, "epochs": 1, "show_progress": False}
    return run(load_settings(model, "chains", config_dict={**values, **changes}).config)


SMALL_GRAPHS = {"NCL": {"num_clusters": 5}, "DGCF": {"train_batch_size": 64, "n_factors": 2}}


@pytest.mark.parametrize("way", [{"precision": "bf16"}, {"enable_amp": True}], ids=str)
@pytest.mark.parametrize("model", acceleration.IN_FLOAT32)
def test_models_of_recbole_that_cannot_learn_in_bf16_are_refused(folder, model, way, imitated, monkeypatch):
    if model == "NCL" and "enable_amp" in way:
        pytest.skip("its trainer takes no heed of it")
    way = {**way, **SMALL_GRAPHS.get(model, {})}
    with pytest.raises(UserError, match=f"RecBole's {model} cannot be trained in bfloat16: .*; use "):
        of_recbole(folder, model, **way)
    monkeypatch.setattr(acceleration, "IN_FLOAT32", {})
    with pytest.raises(RuntimeError, match=r"BFloat16|dtype"):
        of_recbole(folder, model, **way)


def test_a_model_whose_trainer_takes_no_heed_of_mixed_precision_is_not_refused_it(folder, imitated):
    assert of_recbole(folder, "NCL", enable_amp=True, **SMALL_GRAPHS["NCL"]).test


def test_a_model_whose_loss_takes_options_learns_in_bf16(folder, imitated):
    assert of_recbole(folder, "RecVAE", precision="bf16").test


def test_a_torch_without_onednn_has_no_bf16(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert not acceleration.has_bf16(torch.device("cpu"))


def test_bf16_beside_recboles_mixed_precision_is_refused(folder, capsys):
    line = refusal(folder, capsys, precision="bf16", enable_amp=True)
    assert "precision = bf16 and enable_amp = True are two kinds of mixed precision; set enable_amp: False" in line


def test_float16_is_refused_where_losses_take_their_gradients_before_they_are_scaled():
    for model in ("ACTSR", "ACBERT4Rec", "AttnSASRec"):
        config = load_settings(model, "ml-100k", config_dict={"enable_amp": True, "use_gpu": False}).config
        config["device"] = torch.device("cuda")
        if model == "AttnSASRec":
            acceleration.check(config)
        else:
            with pytest.raises(UserError, match=f"enable_amp = True: {model} takes its gradients before"):
                acceleration.check(config)


def test_an_unknown_precision_is_refused(folder, capsys):
    assert "precision = 'fp8' (command line) is not allowed: it must be float32 | bf16" in refusal(
        folder, capsys, precision="fp8"
    )


def test_compiling_is_refused_without_a_compiler(folder, capsys, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    line = refusal(folder, capsys, compile=True)
    assert "compile = True: there is no C++ compiler (no-such-compiler); use compile=False" in line


def test_compiling_a_model_of_recbole_is_refused(folder, capsys):
    line = refusal(folder, capsys, model="SASRec", compile=True)
    assert "compile = True: SASRec is RecBole's and made for eager PyTorch; use compile=False" in line


def test_compiling_where_torch_cannot_is_refused(folder, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("Dynamo is not supported here")

    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(acceleration, "missing", lambda device: None)
    line = refusal(folder, capsys, compile=True)
    assert "compile = True: torch says: Dynamo is not supported here; use compile=False" in line


def break_the_compiler(module):
    """As `compile_training`, with a compiler that fails when the first batch comes."""

    def broken(*_):
        raise OSError("no working compiler\nand pages of what it was asked")

    compile_training(module, backend=broken)


@pytest.mark.skipif(not can_hold_operators(), reason="this torch does not compile our models")
def test_a_compiler_that_fails_at_the_first_batch_is_one_line(folder, capsys, monkeypatch):
    monkeypatch.setattr(acceleration, "compile_training", break_the_compiler)
    line = refusal(folder, capsys, compile=True)
    assert "compile = True: torch could not compile the model (BackendCompilerFailed: " in line
    assert line.endswith("no working compiler); use --compile=False")


@pytest.mark.skipif(not can_hold_operators(), reason="this torch does not compile our models")
def test_in_a_comparison_it_is_the_reason_why_the_trial_failed(folder, capsys, monkeypatch):
    fork_trials(monkeypatch)
    monkeypatch.setattr(acceleration, "compile_training", break_the_compiler)
    monkeypatch.chdir(folder)
    assert main(command(folder, model="AttnSASRec", dataset="chains", seeds=1, compile=True, name="broken")) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed: ")]
    assert "compile = True: torch could not compile the model" in line and line.endswith("use --compile=False")


def test_an_error_of_the_model_itself_is_not_called_one_of_the_compiler(folder, monkeypatch):
    def fail(*_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(acceleration, "choose_dropout", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main(command(folder, model="AttnSASRec", dataset="chains"))


@pytest.mark.slow
@pytest.mark.skipif(not can_hold_operators(), reason="this torch does not compile our models")
def test_a_broken_compiler_ends_a_real_run_in_one_line(folder, tmp_path):
    environment = {**os.environ, "CXX": "false", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    words = command(folder, model="AttnSASRec", dataset="chains", compile=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "recbole_attn", *words],
        capture_output=True, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith("use --compile=False")
