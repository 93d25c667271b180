"""Taking up a run that was interrupted: everything its next epoch depends on, back in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recbole_attn.checkpoint import load_checkpoint, random_state, set_random_state
from recbole_attn.errors import UserError
from recbole_attn.matching import check_mechanism, check_model
from recbole_attn.progress import Epoch, WatchedTrainer


class ResumableTrainer(WatchedTrainer):
    """Takes up the run that a `last.pth` describes.

    Attributes:
        best_epoch: the epoch that `best.pth` holds; None before the first.
        saved_model_file, last_file: paths of `best.pth` and `last.pth`.
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        self.best_epoch: int | None = None
        self._loaders: dict[str, Any] = {}
        self._continuation: dict[str, Any] | None = None  # set by a resume, until random states are put back
        self._use_folder(Path(self.checkpoint_dir))

    def _use_folder(self, folder: Path) -> None:
        self.saved_model_file = str(folder / "best.pth")
        self.last_file = str(folder / "last.pth")

    @property
    def stop_reason(self) -> str | None:
        """Why training ended, by the settings of now; None where an epoch is still to be trained."""
        if self.cur_step > self.stopping_step:
            return "early stopping"
        return "epoch limit" if self.start_epoch >= self.epochs else None

    def _generators(self):
        return [(name, loader) for name, loader in self._loaders.items() if getattr(loader, "generator", None)]

    def _training_state(self) -> dict[str, Any]:
        """What the epochs to come depend on, beside model and optimiser."""
        return {
            "best_valid_result": self.best_valid_result,
            "best_epoch": self.best_epoch,
            "train_loss_dict": self.train_loss_dict,
            "history": [record._asdict() for record in self.history],
            "stop_reason": self.stop_reason,
            "random_state": random_state(),
            "generators": {name: loader.generator.get_state() for name, loader in self._generators()},
        }

    def resume_checkpoint(self, resume_file):
        """Take up the run whose `last.pth`, or whose folder, this is; `fit` then continues it.

        Settings come from this trainer's config (a lower learning rate, more epochs), everything else from the file.

        Raises:
            UserError: not a `last.pth`; another model, mechanism, data set or learner; no `best.pth`, or one of another
                run.
        """
        path = Path(resume_file)
        path = path / "last.pth" if path.is_dir() else path
        checkpoint = load_checkpoint(path)
        check_model(checkpoint, self.config, self.model)
        check_mechanism(checkpoint, self.config)
        self._check_continuation(checkpoint, path)
        self._use_folder(path.parent)
        self._load_training(checkpoint)
        self.logger.info(f"Resumed {path}: {self.start_epoch} epochs are done")

    def _check_continuation(self, checkpoint: dict[str, Any], path: Path) -> None:
        check_continuation(checkpoint, path)
        learner = checkpoint["config"]["learner"]
        if learner != self.learner:
            raise UserError(f"resume {path}: learner={self.learner}, but it was trained with {learner}; keep that one")
        best_epoch = checkpoint["continuation"]["best_epoch"]
        if best_epoch is None:
            return
        best_file = path.with_name("best.pth")
        best = load_checkpoint(best_file)
        belongs = best.get("run_id") == checkpoint["run_id"]
        if not belongs or best["epoch"] not in (best_epoch, checkpoint["epoch"] + 1):
            raise UserError(f"resume {path}: {best_file} is not this run's epoch {best_epoch}; put that one back")

    def _load_training(self, checkpoint: dict[str, Any]) -> None:
        self._load_weights(checkpoint)
        groups = self.optimizer.state_dict()["param_groups"]  # learning rate and so on: those of this config
        self.optimizer.load_state_dict({**checkpoint["optimizer"], "param_groups": groups})
        self.start_epoch = checkpoint["epoch"] + 1
        for name in ("run_id", "cur_step", "best_valid_score"):
            setattr(self, name, checkpoint[name])
        continuation = checkpoint["continuation"]
        for name in ("best_valid_result", "best_epoch", "train_loss_dict"):
            setattr(self, name, continuation[name])
        self.history = [Epoch(**record) for record in continuation["history"]]
        self._continuation = {**continuation, "id_space": checkpoint["id_space"]}

    def _load_weights(self, checkpoint: dict[str, Any]) -> None:
        self.model.load_state_dict(checkpoint["state_dict"])
        others = without_modules(checkpoint.get("other_parameter") or {})
        move = {name: v.to(self.device) if isinstance(v, torch.Tensor) else v for name, v in others.items()}
        self.model.load_other_parameter(move)

    def _restore_random_state(self) -> None:
        if self._continuation is None:
            return
        set_random_state(self._continuation["random_state"])
        for name, loader in self._generators():
            loader.generator.set_state(self._continuation["generators"][name])
        self._continuation = None


def check_continuation(checkpoint: dict[str, Any], path) -> None:
    """Refuse a checkpoint that training cannot go on from.

    Raises:
        UserError: it is no `last.pth`.
    """
    if "continuation" not in checkpoint:
        raise UserError(f"resume {path}: holds a model but not the state of its training; give the run's last.pth")


def without_modules(parameters: dict[str, Any]) -> dict[str, Any]:
    """Leave out what `state_dict` holds anyway.

    Some models list whole modules among their other parameters. Put back, they would replace the very parameters
    that the optimiser was built on, and bring the data set along.
    """
    return {name: value for name, value in parameters.items() if not isinstance(value, torch.nn.Module)}
