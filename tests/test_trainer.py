"""A run can be killed at any moment, resumed, and ends as if nothing had happened."""

import functools
import itertools
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import recbole_attn  # makes RecBole importable, so it comes first

# isort: split
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.trainer import TraditionalTrainer, Trainer
from recbole.utils import get_model, get_trainer, init_seed

from recbole_attn import checkpoint as checkpoint_module
from recbole_attn import progress
from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.errors import UserError
from recbole_attn.trainer import AttnTrainer, Interrupted, with_checkpoints

MODELS = {
    "SASRec": {"loss_type": "CE", "train_neg_sample_args": None},
    "SASRec-BPR": {"loss_type": "BPR"},  # draws negatives with NumPy
    "BERT4Rec": {"train_neg_sample_args": None, "mask_ratio": 0.4},  # masks with Python's random
    "Pop": {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}},
}
EPOCHS = 3
BATCHES = 4


def write_toy_data(folder: Path, users=40, items=25, seed=0) -> None:
    draw = random.Random(seed)
    rows = [(f"u{u}", f"i{draw.randrange(items)}", t) for u in range(users) for t in range(draw.randrange(5, 12))]
    lines = ["user_id:token\titem_id:token\ttimestamp:float"] + ["\t".join(map(str, row)) for row in rows]
    (folder / "toy").mkdir(parents=True, exist_ok=True)
    (folder / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")


class Run:
    """One run on the toy data, in its own folder."""

    def __init__(self, data: Path, folder: Path, model="SASRec", trainer_class=None, **settings):
        general = {"data_path": str(data), "checkpoint_dir": str(folder), "epochs": EPOCHS, "train_batch_size": 64}
        general |= {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "use_gpu": False, "worker": 0}
        general |= {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 2}
        general |= {"metrics": ["Recall", "NDCG"], "valid_metric": "NDCG@10", "show_progress": False}
        general |= {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"}}
        values = {**general, **MODELS[model], **settings}
        self.config = Config(model=model.split("-")[0], dataset="toy", config_dict=values)
        init_seed(self.config["seed"], self.config["reproducibility"])
        self.train, self.valid, self.test = data_preparation(self.config, create_dataset(self.config))
        self.model = get_model(self.config["model"])(self.config, self.train._dataset)
        stock = get_trainer(self.config["MODEL_TYPE"], self.config["model"])
        self.trainer = (trainer_class or with_checkpoints(stock))(self.config, self.model)
        self.folder = folder

    def resume(self, path=None):
        self.trainer.resume_checkpoint(path or self.folder / "last.pth")
        return self

    def fit(self, **arguments):
        self.best = self.trainer.fit(self.train, self.valid, verbose=False, **arguments)
        return self

    def outcome(self):
        """Everything a run ends with, in one comparable value: bits, not approximations."""
        test = self.trainer.evaluate(self.test)
        states = [load_checkpoint(self.folder / name) for name in ("best.pth", "last.pth")]
        history = [(e.epoch, e.train_loss, e.valid_score, e.valid_result) for e in self.trainer.history]
        ended = (self.trainer.best_epoch, self.trainer.stop_reason, self.trainer.train_loss_dict)
        return dict(
            best=self.best,
            test=test,
            history=history,
            ended=ended,
            weights=bits([s["state_dict"] for s in states]),
            optimizer=bits([s["optimizer"] for s in states]),
            others=bits([s["other_parameter"] for s in states]),
        )


def bits(value):
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(entry) for key, entry in value.items()}
    return [bits(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def die_at(owner, name, call):
    """Let call number `call` of a function be the process's last: it ends there as under kill -9."""
    original, calls = getattr(owner, name), itertools.count()

    def deadly(*args, **kwargs):
        if next(calls) == call:
            os._exit(9)
        return original(*args, **kwargs)

    setattr(owner, name, deadly)


# With a write before each epoch, one at the end, and at least one best.pth: every write is met twice, once with all
# its bytes beside the checkpoint and not yet renamed, once before the first byte; and every epoch in mid-batch.
DEATHS = [
    *[("SASRec", "replace", call) for call in range(EPOCHS + 2)],
    *[("SASRec", "save", call) for call in range(1, EPOCHS + 2)],
    *[("SASRec", "batch", call) for call in (0, BATCHES + 1, 2 * BATCHES, EPOCHS * BATCHES - 1)],
    *[("SASRec", "evaluate", call) for call in range(EPOCHS)],
    *[(model, "batch", BATCHES + 1) for model in ("SASRec-BPR", "BERT4Rec")],
    *[(model, "replace", 2) for model in ("SASRec-BPR", "BERT4Rec")],
    ("BERT4Rec", "batch", 2 * BATCHES + 2),
    ("Pop", "batch", 2),
]
POINTS = {
    "replace": (os, "replace"),
    "save": (checkpoint_module.torch, "save"),
    "batch": (AttnTrainer, "_check_nan"),
    "evaluate": (Trainer, "evaluate"),
}


def die_in_every_way(root: Path) -> None:
    """Runs in a process of its own, which forks one short-lived run for each death."""
    for model in MODELS:
        Run(root / "data", root / "warm-up", model)  # what is imported late is imported once, not in every child
    for model, point, call in DEATHS:
        child = os.fork()
        if child == 0:
            die_at(*POINTS[point], call)
            Run(root / "data", root / f"{model}-{point}-{call}", model).fit()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 9 << 8, f"{model}: never came to {point} {call}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_data(folder / "data")
    return folder / "data"


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory):
    """RecBole writes log_tensorboard/ where it stands. One thread, as the killed runs have: two add up otherwise."""
    before, argv, threads = os.getcwd(), sys.argv, torch.get_num_threads()
    torch.set_num_threads(1)
    os.chdir(tmp_path_factory.mktemp("cwd"))
    sys.argv = ["test"]
    yield
    os.chdir(before)
    sys.argv = argv
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def graveyard(data):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(recbole_attn.__file__).parents[1])}
    command = [sys.executable, __file__, str(data.parent)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return data.parent


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    outcomes = {}

    def outcome(model):
        if model not in outcomes:
            outcomes[model] = Run(data, tmp_path_factory.mktemp("whole"), model).fit().outcome()
        return outcomes[model]

    return outcome


@pytest.fixture
def log(monkeypatch):
    """The lines that trainers log."""
    lines = []
    monkeypatch.setattr("logging.Logger.info", lambda self, text, *args: lines.append(str(text)))
    return lines


@pytest.mark.parametrize("model,point,call", DEATHS)
def test_a_run_killed_anywhere_and_resumed_ends_as_the_uninterrupted_one(
    graveyard, tmp_path, uninterrupted, model, point, call
):
    folder = shutil.copytree(graveyard / f"{model}-{point}-{call}", tmp_path / "run")
    if not (folder / "last.pth").exists():
        assert (point, call) == ("replace", 0)  # killed before the first write: nothing to resume
        return
    resumed = Run(graveyard / "data", folder, model).resume().fit()
    assert resumed.outcome() == uninterrupted(model)


def test_the_toy_run_is_no_trivial_one(uninterrupted):
    scores = [score for _, _, score, _ in uninterrupted("SASRec")["history"]]
    assert len(set(scores)) > 1 and min(scores) > 0


def test_a_death_between_the_two_writes_leaves_best_one_epoch_ahead(graveyard):
    best, last = (load_checkpoint(graveyard / "SASRec-replace-2" / name) for name in ("best.pth", "last.pth"))
    assert best["epoch"] == last["epoch"] + 1 == 0


def test_a_run_killed_twice_ends_as_the_uninterrupted_one(data, tmp_path, uninterrupted, monkeypatch):
    for batch in (BATCHES + 2, 2):
        with monkeypatch.context() as patch:
            interrupt(patch, batch)
            run = Run(data, tmp_path)
            with pytest.raises(Interrupted):
                (run.resume() if (tmp_path / "last.pth").exists() else run).fit()
    assert Run(data, tmp_path).resume().fit().outcome() == uninterrupted("SASRec")


def interrupt(patch, batch):
    """Ctrl-C in that batch."""
    original, calls = AttnTrainer._check_nan, itertools.count()

    def check(self, loss):
        if next(calls) == batch:
            raise KeyboardInterrupt
        original(self, loss)

    patch.setattr(AttnTrainer, "_check_nan", check)


def test_training_is_recboles_own(data, tmp_path):
    ours = Run(data, tmp_path / "ours", epochs=2).fit()
    stock = Run(data, tmp_path / "stock", epochs=2, trainer_class=Trainer).fit()
    assert ours.best == stock.best
    assert ours.trainer.evaluate(ours.test) == stock.trainer.evaluate(stock.test)
    assert ours.trainer.train_loss_dict == stock.trainer.train_loss_dict


def test_resuming_a_finished_run_says_so_and_changes_nothing(data, tmp_path, uninterrupted, log):
    Run(data, tmp_path).fit()
    before = snapshot(tmp_path)
    resumed = Run(data, tmp_path).resume().fit()
    assert f"Nothing to train: {EPOCHS} epochs are done, stopped by epoch limit" in log
    assert snapshot(tmp_path) == before
    assert resumed.outcome() == uninterrupted("SASRec")


def snapshot(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_sampled_evaluation_of_a_resumed_run_draws_the_same_negatives(data, tmp_path):
    sampled = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni5", "group_by": "user"}
    settings = {"eval_args": sampled, "metrics": ["NDCG"], "topk": [3], "valid_metric": "NDCG@3"}
    whole = Run(data, tmp_path, **settings).fit()
    expected = whole.outcome()
    assert Run(data, tmp_path, **settings).resume().fit().outcome() == expected


def test_more_epochs_continue_as_if_they_had_been_asked_for_at_first(data, tmp_path, uninterrupted):
    Run(data, tmp_path, epochs=1).fit()
    assert Run(data, tmp_path).resume().fit().outcome() == uninterrupted("SASRec")


def test_early_stopping_counts_on_after_a_resume(data, tmp_path, monkeypatch):
    scores = {"valid": iter([0.5, 0.4, 0.3, 0.2])}
    monkeypatch.setattr(Trainer, "evaluate", lambda *args, **kwargs: {"ndcg@10": next(scores["valid"])})
    settings = {"stopping_step": 1, "epochs": 9}
    with monkeypatch.context() as patch:
        interrupt(patch, 2 * BATCHES + 1)
        with pytest.raises(Interrupted):
            Run(data, tmp_path, **settings).fit()
    run = Run(data, tmp_path, **settings).resume().fit()
    assert (run.trainer.stop_reason, run.trainer.best_epoch, len(run.trainer.history)) == ("early stopping", 0, 3)
    more = Run(data, tmp_path, **{**settings, "epochs": 20}).resume().fit()
    assert len(more.trainer.history) == 3, "a run that stopped early is not continued by a higher epoch limit"


def test_without_validation_the_last_epoch_is_the_best(data, tmp_path):
    run = Run(data, tmp_path)
    run.valid = None
    run.fit()
    assert run.trainer.best_epoch == EPOCHS - 1
    assert bits(load_checkpoint(tmp_path / "best.pth")["state_dict"]) == bits(run.model.state_dict())
    assert run.trainer.history[-1].valid_score is None


def test_epochs_that_are_not_validated_are_resumed_too(data, tmp_path, monkeypatch):
    whole = Run(data, tmp_path / "whole", epochs=5, eval_step=2).fit().outcome()
    assert [score is None for _, _, score, _ in whole["history"]] == [True, False, True, False, True]
    with monkeypatch.context() as patch:
        interrupt(patch, 3 * BATCHES + 1)
        with pytest.raises(Interrupted):
            Run(data, tmp_path / "cut", epochs=5, eval_step=2).fit()
    assert Run(data, tmp_path / "cut", epochs=5, eval_step=2).resume().fit().outcome() == whole


def test_a_run_whose_validation_is_never_a_number_says_that_no_epoch_is_the_best(data, tmp_path, monkeypatch):
    run = Run(data, tmp_path, epochs=2)
    monkeypatch.setattr(Trainer, "evaluate", lambda *args, **kwargs: {"ndcg@10": float("nan")})
    run.fit()
    with pytest.raises(UserError, match="no epoch is the best: ndcg@10 was nan and never better in 2 validations"):
        run.trainer.evaluate(run.test)


def test_a_run_that_ends_before_its_first_validation_says_so(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, BATCHES + 1)
        with pytest.raises(Interrupted):
            Run(data, tmp_path, epochs=9, eval_step=5).fit()
    run = Run(data, tmp_path, epochs=1, eval_step=5).resume().fit()
    with pytest.raises(UserError, match="no epoch is the best: 1 epochs are done and none was validated"):
        run.trainer.evaluate(run.test)


def test_a_float64_run_is_resumed_exactly(data, tmp_path, monkeypatch):
    def double(folder):
        run = Run(data, folder)
        run.model.double()
        run.trainer.optimizer = run.trainer._build_optimizer()
        return run

    whole = double(tmp_path / "whole").fit().outcome()
    interrupt(monkeypatch, BATCHES + 1)
    with pytest.raises(Interrupted):
        double(tmp_path / "cut").fit()
    assert double(tmp_path / "cut").resume().fit().outcome() == whole


def test_ctrl_c_names_the_checkpoint_to_resume_from(data, tmp_path, monkeypatch):
    interrupt(monkeypatch, 1)
    with pytest.raises(Interrupted) as caught:
        Run(data, tmp_path).fit()
    assert str(caught.value) == (
        f"interrupted in epoch 0; the last state saved is kept: continue with --resume={tmp_path / 'last.pth'}"
    )
    assert (tmp_path / "last.pth").is_file()


def test_nothing_is_written_where_nothing_shall_be_saved(data, tmp_path, monkeypatch):
    run = Run(data, tmp_path).fit(saved=False)
    assert list(tmp_path.iterdir()) == [] and run.trainer.best_epoch is not None
    interrupt(monkeypatch, 1)
    with pytest.raises(Interrupted, match="nothing was saved, so start again"):
        Run(data, tmp_path).fit(saved=False)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_names_epoch_batch_and_cure(data, tmp_path, monkeypatch, value):
    run = Run(data, tmp_path)
    original, calls = run.model.calculate_loss, itertools.count()
    monkeypatch.setattr(
        run.model, "calculate_loss", lambda batch: original(batch) * (float(value) if next(calls) == BATCHES + 2 else 1)
    )
    with pytest.raises(UserError) as caught:
        run.fit()
    text = str(caught.value)
    assert text.startswith(
        f"epoch 1, batch 2: the loss is {value}; try a learning_rate lower than 0.001 or clip_grad_norm="
    )
    assert f"--resume={tmp_path / 'last.pth'}" in text and "\n" not in text
    assert load_checkpoint(tmp_path / "last.pth")["epoch"] == 0


def test_a_model_broken_by_the_last_step_of_an_epoch_is_not_saved(data, tmp_path, monkeypatch):
    run = Run(data, tmp_path)
    original, calls = run.trainer.optimizer.step, itertools.count()

    def step(*args, **kwargs):
        original(*args, **kwargs)
        if next(calls) == 2 * BATCHES - 1:
            run.model.LayerNorm.bias.data[0] = float("nan")

    monkeypatch.setattr(run.trainer.optimizer, "step", step)
    with pytest.raises(UserError, match=rf"epoch 1, batch {BATCHES}: LayerNorm.bias is no longer finite"):
        run.fit()
    saved = load_checkpoint(tmp_path / "last.pth")["state_dict"]
    assert all(torch.isfinite(value).all() for value in saved.values())


def test_a_resumed_run_takes_the_learning_rate_of_its_own_settings(data, tmp_path):
    Run(data, tmp_path, epochs=1).fit()
    run = Run(data, tmp_path, learning_rate=1e-4).resume()
    assert run.trainer.optimizer.param_groups[0]["lr"] == 1e-4


def test_a_full_disk_during_a_run_stops_it_and_keeps_the_last_state(data, tmp_path, uninterrupted, monkeypatch):
    original, calls = torch.save, itertools.count()

    def save(*args, **kwargs):
        if next(calls) == 3:
            raise OSError(28, os.strerror(28))
        original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(UserError, match=r"No space left on device; .*continue with --resume="):
            Run(data, tmp_path).fit()
    assert Run(data, tmp_path).resume().fit().outcome() == uninterrupted("SASRec")


def test_a_checkpoint_dir_that_cannot_be_made_is_one_line(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*Not a directory; choose another folder"):
        Run(data, tmp_path / "file" / "run")


def test_recboles_own_loader_reads_best_and_last(data, tmp_path):
    run = Run(data, tmp_path).fit()
    expected = run.trainer.evaluate(run.test)
    for name in ("best.pth", "last.pth"):
        config, model, _, _, _, test = load_data_and_model(str(tmp_path / name))
        if name == "best.pth":
            assert Trainer(config, model).evaluate(test, load_best_model=False) == expected


def test_a_checkpoint_names_its_items_in_the_order_of_training(data, tmp_path):
    run = Run(data, tmp_path, epochs=1).fit()
    item_ids = load_checkpoint(tmp_path / "best.pth")["item_ids"]
    assert item_ids == run.train._dataset.id2token("item_id", range(run.model.n_items)).tolist()
    assert item_ids[0] == "[PAD]" and len(set(item_ids)) == run.model.n_items


def test_a_traditional_model_runs_through_the_same_code(data, tmp_path):
    run = Run(data, tmp_path, "Pop", eval_step=5).fit()
    assert isinstance(run.trainer, AttnTrainer) and isinstance(run.trainer, TraditionalTrainer)
    assert (run.trainer.stop_reason, run.trainer.best_epoch) == ("epoch limit", 0)
    assert run.trainer.evaluate(run.test)["recall@10"] > 0


def test_a_checkpoint_brings_back_what_is_no_parameter(data, tmp_path):
    counted = Run(data, tmp_path, "Pop").fit()
    expected = counted.trainer.evaluate(counted.test)
    untrained = Run(data, tmp_path, "Pop")
    assert untrained.trainer.evaluate(untrained.test) == expected
    assert torch.equal(untrained.model.item_cnt, counted.model.item_cnt)


def test_a_resume_keeps_the_modules_that_the_optimiser_was_built_on(data, tmp_path):
    def listing_a_module():
        run = Run(data, tmp_path, epochs=1)
        run.model.other_parameter_name = ["item_embedding"]  # as FDSA and DIN do
        return run

    listing_a_module().fit()
    resumed = listing_a_module()
    embedding = resumed.model.item_embedding
    resumed.resume().trainer.evaluate(resumed.test)
    assert resumed.model.item_embedding is embedding


def test_trainers_that_cannot_be_resumed_are_refused():
    from recbole.trainer import DecisionTreeTrainer, S3RecTrainer

    for stock in (DecisionTreeTrainer, S3RecTrainer):
        with pytest.raises(UserError, match=f"{stock.__name__}: cannot be resumed"):
            with_checkpoints(stock)
    assert with_checkpoints(Trainer) is AttnTrainer is with_checkpoints(AttnTrainer)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    return Run(data, tmp_path_factory.mktemp("finished"), epochs=1).fit()


def refusal(call, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


def test_best_alone_is_not_resumed(data, tmp_path, finished):
    text = refusal(Run(data, tmp_path).resume, finished.folder / "best.pth")
    assert "holds a model but not the state of its training" in text


def test_a_run_of_another_model_shape_or_learner_is_not_resumed(data, tmp_path, finished):
    assert "another model: SASRec, not BERT4Rec" in refusal(Run(data, tmp_path, "BERT4Rec").resume, finished.folder)
    assert "hidden_size (16 there, 32 here)" in refusal(Run(data, tmp_path, hidden_size=32).resume, finished.folder)
    assert "trained with adam" in refusal(Run(data, tmp_path, learner="sgd").resume, finished.folder)


def test_a_run_on_other_items_of_the_same_number_is_not_resumed(tmp_path, finished):
    write_toy_data(tmp_path / "data", seed=1)
    run = Run(tmp_path / "data", tmp_path / "run").resume(finished.folder)
    assert "another data set" in refusal(run.fit)


def test_a_best_that_is_missing_or_of_another_run_is_said(data, tmp_path, finished):
    Run(data, tmp_path, epochs=1).fit()
    best = tmp_path / "best.pth"
    best.write_bytes((finished.folder / "best.pth").read_bytes())
    assert f"{best} is not this run's epoch 0; put that one back" in refusal(Run(data, tmp_path).resume)
    best.unlink()
    assert "best.pth: No such file" in refusal(Run(data, tmp_path).resume)


def test_evaluating_without_a_checkpoint_is_one_line(data, tmp_path):
    run = Run(data, tmp_path)
    assert "best.pth: No such file" in refusal(run.trainer.evaluate, run.test)


def test_a_best_of_another_epoch_is_not_tested_under_the_best_ones_name(data, tmp_path):
    run = Run(data, tmp_path, epochs=2)
    run.fit()
    run.trainer.best_epoch += 7
    text = refusal(run.trainer.evaluate, run.test)
    assert "which training on did not find the best again" in text


class Terminal:
    """A standard error that claims to be a terminal."""

    def __init__(self, is_terminal):
        self.text, self.isatty = "", lambda: is_terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("shown,is_terminal", [(True, True), (True, False), (False, True)])
def test_the_bar_shows_loss_and_time_left_on_a_terminal_only(data, tmp_path, monkeypatch, shown, is_terminal):
    terminal = Terminal(is_terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "tqdm", functools.partial(progress.tqdm, mininterval=0))
    Run(data, tmp_path, epochs=1).fit(show_progress=shown)
    if shown and is_terminal:
        assert "Train     0" in terminal.text and "loss " in terminal.text and "<00:0" in terminal.text
    else:
        assert terminal.text == ""


def test_the_history_tells_what_each_epoch_did(data, tmp_path):
    run = Run(data, tmp_path, epochs=2).fit()
    for epoch, record in enumerate(run.trainer.history):
        assert record.epoch == epoch and record.train_loss == run.trainer.train_loss_dict[epoch]
        assert record.train_seconds > 0 and record.valid_seconds > 0
        assert record.valid_score == record.valid_result["ndcg@10"]
    stored = load_checkpoint(tmp_path / "last.pth")["continuation"]["history"]
    assert stored == [record._asdict() for record in run.trainer.history]


if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    os.chdir(folder)
    die_in_every_way(folder)
