"""One trial on several processes: RecBole's data-parallel training, on GPUs (nccl) or on the CPU (gloo).

Each process takes its share of every batch, and gradients are averaged, so that a step is the step of one process on
the whole batch where the loss is a mean over its rows. AC-TSR's penalty and a mean over masked items are of each share.
Validation and test run on the first process alone: RecBole's own way pads the shares with rows
that stand twice. A checkpoint holds the random states of all processes, so that a resumed trial goes on exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.utils import ModelType, init_seed
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from recbole_attn.errors import UserError
from recbole_attn.trainer import AttnTrainer, with_checkpoints


def join(config, rank: int, folder: Path) -> None:
    """Make this process number `rank` of `config["nproc"]`, which meet in a file of `folder`.

    Raises:
        UserError: fewer GPUs than processes.
    """
    on_gpus = config["device"].type == "cuda"
    if on_gpus and torch.cuda.device_count() < config["nproc"]:
        raise UserError(f"nproc = {config['nproc']}: this process sees {torch.cuda.device_count()} GPUs; lower it")
    if on_gpus:
        config["device"] = torch.device("cuda", rank)
        torch.cuda.set_device(rank)
    config["local_rank"] = rank
    distributed.init_process_group(
        "nccl" if on_gpus else "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=config["nproc"],
    )


def check(config) -> None:
    """Refuse, before any data is read, to share batches that only one process can make.

    Raises:
        UserError: several processes for whole sequences, or for histories of like length.
    """
    grouped = config["length_buckets"] is not None and config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    if (config["nproc"] or 1) > 1 and (config["training"] == "sequence" or grouped):
        raise _refusal(config)


def check_gpus(config) -> None:
    """Refuse processes without a GPU each; RecBole shows them those that `gpu_id` names, the first alone by default.

    Raises:
        UserError: there are fewer.
    """
    processes, named = config["nproc"] or 1, [name for name in str(config["gpu_id"]).split(",") if name.strip()]
    if processes > 1 and config["device"].type == "cuda" and len(named) < processes:
        each = ",".join(map(str, range(processes)))
        raise UserError(
            f"nproc = {processes}: needs as many GPUs, and gpu_id = {config['gpu_id']} names {len(named)}; say "
            f"--gpu_id={each}, or --use_gpu=False"
        )


def share(config, loader):
    """This process's share of the training batches.

    Raises:
        UserError: a loader that only one process can use; some of RecBole's models have their own.
    """
    if type(loader) is not TrainDataLoader:
        raise _refusal(config)
    with _Several(config):
        return TrainDataLoader(config, loader.dataset, loader._sampler, shuffle=config["shuffle"])


def _refusal(config) -> UserError:
    return UserError(f"nproc = {config['nproc']}: needs training=prefix and length_buckets=~, or nproc=1")


def with_sharing(trainer_class: type) -> type:
    """The trainer class with checkpoints, whose steps are taken together with the other processes."""
    checked = with_checkpoints(trainer_class)
    return type(f"Shared{checked.__name__}", (_Sharing, checked), {})


class _Several:
    """Within this context RecBole takes itself for one of several processes; elsewhere for the only one."""

    def __init__(self, config):
        self.config = config

    def __enter__(self):
        self.config["single_spec"] = False
        self.config["world_size"] = self.config["nproc"]

    def __exit__(self, *_):
        self.config["single_spec"] = True


class _Sharing(AttnTrainer):
    """To be mixed into a trainer with checkpoints."""

    def __init__(self, config, model):
        super().__init__(config, model)
        devices = [config["device"]] if config["device"].type == "cuda" else None
        self.distributed_model = DistributedDataParallel(self.model, device_ids=devices)
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])  # each its own dropout

    def _train_epoch(self, *arguments, **named):
        with _Several(self.config):
            return super()._train_epoch(*arguments, **named)

    def _valid_epoch(self, *arguments, **named):
        found: list[Any] = [super()._valid_epoch(*arguments, **named) if self.config["local_rank"] == 0 else None]
        distributed.broadcast_object_list(found)
        if self.config["local_rank"]:
            self.history[-1] = self.history[-1]._replace(valid_score=found[0][0], valid_result=found[0][1])
        return found[0]

    def _save(self, state, path):
        """Every process takes part; the first one writes."""
        if "continuation" in state:
            states: list[Any] = [None] * self.config["nproc"]
            distributed.all_gather_object(states, state["continuation"]["random_state"])
            state["continuation"]["random_states"] = states
        if self.config["local_rank"] == 0:
            super()._save(state, path)

    def _restore_random_state(self):
        if self._continuation is not None:
            self._continuation["random_state"] = self._continuation["random_states"][self.config["local_rank"]]
        super()._restore_random_state()
