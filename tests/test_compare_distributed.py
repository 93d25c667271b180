"""Two processes that share a trial's batches take the steps of one."""

from __future__ import annotations

import multiprocessing
import re

import pytest
import torch
from comparisons import SMALL_ATTENTION, TINY, arguments, results
from runs import PATIENCE, write_chains

from recbole_attn import protocol
from recbole_attn.attention import Adversary
from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.cli import main
from recbole_attn.compare.distributed import check_gpus, join, share, with_sharing
from recbole_attn.config.settings import load_settings
from recbole_attn.errors import UserError
from recbole_attn.masks import masked_softmax
from recbole_attn.run import make_trainer

STEPS = 5
PLAIN = {
    **{**TINY, **SMALL_ATTENTION, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "shuffle": False},
    **{"epochs": 1, "train_batch_size": 64, "learner": "sgd", "learning_rate": 0.5},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def together(processes, task, *arguments):
    """Run task(rank, *arguments) in so many processes, to their ends."""
    context = multiprocessing.get_context("fork")
    group = [context.Process(target=task, args=(rank, *arguments)) for rank in range(processes)]
    for process in group:
        process.start()
    for process in group:
        process.join(PATIENCE)
    assert [process.exitcode for process in group] == [0] * processes


def five_steps(rank, folder, model, processes):
    """Parameters after five steps, into a file of `folder`."""
    torch.set_num_threads(1)
    settings = {**PLAIN, "data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "nproc": processes}
    settings.update({"w": 0.0} if model == "ACTSR" else {})
    config = load_settings(model, "chains", config_dict=settings).config
    if processes > 1:
        join(config, rank, folder)
    train, _, _ = protocol.loaders(config, protocol.load(config))
    trainer = make_trainer(config, train.dataset, None, *([with_sharing] if processes > 1 else []))
    loader = share(config, train) if processes > 1 else train
    start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    step = trainer.optimizer.step
    taken = []

    def first_five(*arguments, **named):
        if len(taken) < STEPS:
            step(*arguments, **named)
        taken.append(1)

    trainer.optimizer.step = first_five
    trainer.fit(loader, None, saved=False)
    assert len(taken) >= STEPS
    if rank == 0:
        torch.save((start, trainer.model.state_dict()), folder / f"{processes}.pth")


@pytest.mark.parametrize("model", ["AWRSR", "SASRec", "ACTSR"])
def test_parameters_after_five_steps_are_those_of_one_process(folder, model, monkeypatch):
    """Of ACTSR without what is drawn, or is no mean over rows: the noise and the penalty."""
    monkeypatch.setattr(Adversary, "draw_noise", lambda _, weights, mask: masked_softmax(0 * weights, mask))
    for processes in (1, 2):
        together(processes, five_steps, folder, model, processes)
    (start, one), (_, two) = (torch.load(folder / f"{processes}.pth") for processes in (1, 2))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=0)
    assert max((value - start[name]).abs().max() for name, value in one.items()) > 1e-3


def train(rank, folder, name, epochs, resume=None):
    """Train this process's share with dropout and random negatives; the first one writes what came out."""
    torch.set_num_threads(1)
    random = {"hidden_dropout_prob": 0.5, "loss_type": "BPR", "epochs": epochs, "nproc": 2}
    settings = {**PLAIN, **random, "data_path": str(folder), "checkpoint_dir": str(folder / name)}
    config = load_settings("SASRec", "chains", config_dict=settings).config
    (folder / name).mkdir(exist_ok=True)
    join(config, rank, folder / name)
    loader, _, _ = protocol.loaders(config, protocol.load(config))
    trainer = make_trainer(config, loader.dataset, resume, with_sharing)
    trainer.fit(share(config, loader), None)


def test_a_resumed_trial_on_two_processes_ends_as_the_uninterrupted_one(folder):
    together(2, train, folder, "whole", 2)
    together(2, train, folder, "half", 1)
    (folder / "half" / "meeting").unlink(missing_ok=True)
    together(2, train, folder, "half", 2, str(folder / "half" / "last.pth"))
    whole, resumed = (load_checkpoint(folder / name / "last.pth") for name in ("whole", "half"))
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name
    first, second = whole["continuation"]["random_states"]
    assert not torch.equal(first["torch"], second["torch"])  # each process draws its own dropout


@pytest.mark.slow
def test_a_trial_on_two_processes_ends_with_one_result(folder):
    settings = {"model": "SASRec,Pop", "seeds": 1, "nproc": 2}
    assert main(arguments(folder, **settings)) == 0
    found = results(folder)
    result = found["SASRec", 2020]
    assert (result["epochs"], result["users"]) == (2, 60)
    checkpoint = load_checkpoint(folder / "results" / "chains" / result["key"] / result["checkpoint"])
    assert checkpoint["epoch"] == result["best_epoch"]
    assert main(arguments(folder, **{**settings, "model": "Pop", "nproc": 1, "name": "alone"})) == 0
    assert results(folder, "alone")["Pop", 2020]["test"] == found["Pop", 2020]["test"]


@pytest.mark.parametrize(
    "settings", [{"model": "SASRec,AWRSR", "length_buckets": 2}, {"model": "Pop,FAIR", "item_vectors": "interactions"}]
)
def test_training_that_one_process_can_do_alone_is_refused_before_anything_runs(folder, settings, capsys):
    """FAIR's own training is of whole sequences."""
    assert main(arguments(folder, nproc=2, seeds=1, **settings)) == 2
    assert "nproc = 2: needs training=prefix and length_buckets=~, or nproc=1" in capsys.readouterr().err
    assert not results(folder)


def test_a_loader_that_one_process_can_use_alone_is_refused(folder):
    settings = {**PLAIN, "data_path": str(folder), "nproc": 2, "length_buckets": 2, "shuffle": True}
    config = load_settings("AWRSR", "chains", config_dict=settings).config
    train, _, _ = protocol.loaders(config, protocol.load(config))
    with pytest.raises(UserError, match="nproc = 2: needs training=prefix and length_buckets=~, or nproc=1"):
        share(config, train)


@pytest.mark.parametrize(
    ("gpu_id", "nproc", "device", "says"),
    [
        ("0", 2, "cuda", "nproc = 2: needs as many GPUs, and gpu_id = 0 names 1; say --gpu_id=0,1, or --use_gpu=False"),
        ("0,1", 3, "cuda", "gpu_id = 0,1 names 2; say --gpu_id=0,1,2"),
        ("0,1", 2, "cuda", None),
        ("0", 2, "cpu", None),
        ("0", None, "cuda", None),
    ],
)
def test_processes_need_a_gpu_each_which_recbole_shows_them_if_it_is_named(gpu_id, nproc, device, says):
    config = {"gpu_id": gpu_id, "nproc": nproc, "device": torch.device(device)}
    if says is None:
        check_gpus(config)
        return
    with pytest.raises(UserError, match=re.escape(says)):
        check_gpus(config)
