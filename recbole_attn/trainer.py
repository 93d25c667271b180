"""RecBole's trainer with runs that can be killed, resumed and watched.

A run's folder holds `best.pth`, RecBole's checkpoint of the best epoch, and `last.pth`, the state between two epochs:
written before every epoch and after the last one. `best.pth` is written within an epoch, so after a kill it may be
one epoch ahead of `last.pth`; the resumed run repeats that epoch and writes the same `best.pth` again.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import torch
from recbole.trainer import PretrainTrainer, Trainer

from recbole_attn.checkpoint import load_checkpoint, random_state, save_atomically, set_random_state
from recbole_attn.errors import UserError
from recbole_attn.matching import check_dataset, check_model, identity
from recbole_attn.progress import Epoch, WatchedTrainer


class Interrupted(UserError):
    """Ctrl-C. Training stopped; the text says how to continue."""


class AttnTrainer(WatchedTrainer):
    """Trains as RecBole's Trainer does and leaves a run that can be continued exactly.

    Attributes:
        best_epoch: the epoch that `best.pth` holds; None before the first.
        saved_model_file, last_file: paths of `best.pth` and `last.pth`.
    """

    def __init__(self, config, model):
        try:
            Path(config["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)  # safe beside another process
            super().__init__(config, model)
        except OSError as error:
            raise UserError(f"cannot write to {error.filename}: {error.strerror}; choose another folder") from error
        self.eval_step = min(config["eval_step"], self.epochs)  # a subclass may have lowered `epochs` since it was set
        self.best_epoch: int | None = None
        self.run_id = uuid.uuid4().hex  # from the operating system: draws nothing from the seeded generators
        self._use_folder(Path(self.checkpoint_dir))
        self._continuation: dict[str, Any] | None = None  # set by a resume, until random states are put back

    def _use_folder(self, folder: Path) -> None:
        self.saved_model_file = str(folder / "best.pth")
        self.last_file = str(folder / "last.pth")

    @property
    def stop_reason(self) -> str | None:
        """Why training ended, by the settings of now; None where an epoch is still to be trained."""
        if self.cur_step > self.stopping_step:
            return "early stopping"
        return "epoch limit" if self.start_epoch >= self.epochs else None

    def fit(self, train_data, valid_data=None, verbose=True, saved=True, show_progress=False, callback_fn=None):
        """Train to the end, from where a resume left off. Arguments and result are those of RecBole's `fit`.

        Raises:
            Interrupted: Ctrl-C.
            UserError: a loss that is not finite, a checkpoint that cannot be written, a resume with other data.
        """
        self._loaders = {"train": train_data, "valid": valid_data}
        self._saves, self._resumable = saved, self._continuation is not None
        if self._continuation is not None:
            check_dataset(self._continuation, train_data._dataset)
        self._identity = identity(train_data._dataset)
        if self.stop_reason is None:
            self._fit(train_data, valid_data, verbose, show_progress, callback_fn)
        else:
            self._restore_random_state()
            self.logger.info(f"Nothing to train: {self.start_epoch} epochs are done, stopped by {self.stop_reason}")
        return self.best_valid_score, self.best_valid_result

    def _fit(self, train_data, valid_data, verbose, show_progress, callback_fn) -> None:
        try:
            super().fit(train_data, valid_data, verbose, True, show_progress, callback_fn)
            self._finish_epoch(self.start_epoch + 1)
        except KeyboardInterrupt as error:
            raise Interrupted(f"interrupted in epoch {self.start_epoch}; {self._way_on()}") from error
        except (UserError, OSError) as error:
            raise UserError(f"{error}; {self._way_on()}") from error

    def _way_on(self) -> str:
        if not self._resumable:
            return "nothing was saved, so start again"
        return f"the last state saved is kept: continue with --resume={self.last_file}"

    def _finish_epoch(self, next_epoch: int) -> None:
        """Write `last.pth`: all that `next_epoch` and those after it depend on."""
        self.start_epoch = next_epoch
        continuation = {
            "best_valid_result": self.best_valid_result,
            "best_epoch": self.best_epoch,
            "train_loss_dict": self.train_loss_dict,
            "history": [record._asdict() for record in self.history],
            "stop_reason": self.stop_reason,
            "random_state": random_state(),
            "generators": {name: loader.generator.get_state() for name, loader in self._generators()},
        }
        self._save({**self._state(next_epoch - 1), "continuation": continuation}, self.last_file)
        self._resumable = self._saves

    def _generators(self):
        return [(name, loader) for name, loader in self._loaders.items() if getattr(loader, "generator", None)]

    def _state(self, epoch: int) -> dict[str, Any]:
        """A checkpoint in RecBole's format, and whose it is."""
        return {
            "config": self.config,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": self.best_valid_score,
            "state_dict": self.model.state_dict(),
            "other_parameter": _without_modules(self.model.other_parameter()),
            "optimizer": self.optimizer.state_dict(),
            "run_id": self.run_id,
            **self._identity,
        }

    def _save(self, state: dict[str, Any], path: str) -> None:
        if self._saves and (self.config["single_spec"] or self.config["local_rank"] == 0):
            save_atomically(state, path)

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        self.best_epoch = epoch
        path = kwargs.get("saved_model_file", self.saved_model_file)
        self._save(self._state(epoch), path)
        if verbose and self._saves:
            self.logger.info(f"Saved epoch {epoch}: {path}")

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        self._restore_random_state()
        self._finish_epoch(epoch_idx)
        return super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)

    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """Evaluate as RecBole's `evaluate` does.

        Raises:
            UserError: the checkpoint is missing, damaged or of another model.
        """
        if eval_data and load_best_model:
            path = model_file or self.saved_model_file
            checkpoint = load_checkpoint(path)
            check_model(checkpoint, self.config, self.model)
            self._load_weights(checkpoint)
            self.logger.info(f"Evaluating {path}, written in epoch {checkpoint['epoch']}")
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def resume_checkpoint(self, resume_file):
        """Take up the run whose `last.pth`, or whose folder, this is; `fit` then continues it.

        Settings come from this trainer's config (a lower learning rate, more epochs), everything else from the file.

        Raises:
            UserError: not a `last.pth`; another model, data set or learner; `best.pth` missing or of another run.
        """
        path = Path(resume_file)
        path = path / "last.pth" if path.is_dir() else path
        checkpoint = load_checkpoint(path)
        check_model(checkpoint, self.config, self.model)
        self._check_continuation(checkpoint, path)
        self._use_folder(path.parent)
        self._load_training(checkpoint)
        self.logger.info(f"Resumed {path}: {self.start_epoch} epochs are done")

    def _check_continuation(self, checkpoint: dict[str, Any], path: Path) -> None:
        if "continuation" not in checkpoint:
            raise UserError(f"resume {path}: holds a model but not the state of its training; give the run's last.pth")
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
        others = _without_modules(checkpoint.get("other_parameter") or {})
        move = {name: v.to(self.device) if isinstance(v, torch.Tensor) else v for name, v in others.items()}
        self.model.load_other_parameter(move)

    def _restore_random_state(self) -> None:
        if self._continuation is None:
            return
        set_random_state(self._continuation["random_state"])
        for name, loader in self._generators():
            loader.generator.set_state(self._continuation["generators"][name])
        self._continuation = None


def with_checkpoints(trainer_class: type) -> type[AttnTrainer]:
    """The trainer class RecBole chose for a model, made to checkpoint, resume and report as AttnTrainer does.

    A resume is exact for trainers that keep no state beyond RecBole's Trainer's own: Trainer and TraditionalTrainer.

    Raises:
        UserError: a trainer that does not go through RecBole's `fit` (decision trees), or pre-trains in stages.
    """
    if issubclass(trainer_class, AttnTrainer):
        return trainer_class
    if not issubclass(trainer_class, Trainer) or issubclass(trainer_class, PretrainTrainer):
        raise UserError(f"{trainer_class.__name__}: cannot be resumed; train this model with recbole.run_recbole")
    if trainer_class is Trainer:
        return AttnTrainer
    return type(f"Attn{trainer_class.__name__}", (AttnTrainer, trainer_class), {})


def _without_modules(parameters: dict[str, Any]) -> dict[str, Any]:
    """Leave out what `state_dict` holds anyway.

    Some models list whole modules among their other parameters. Put back, they would replace the very parameters
    that the optimiser was built on, and bring the data set along.
    """
    return {name: value for name, value in parameters.items() if not isinstance(value, torch.nn.Module)}
