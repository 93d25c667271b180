"""RecBole's trainer with runs that can be killed, resumed and watched.

A run's folder holds `best.pth`, RecBole's checkpoint of the best epoch, and `last.pth`, the state between two epochs:
written before every epoch and after the last one. `best.pth` is written within an epoch, so after a kill it may be
one epoch ahead of `last.pth`; the resumed run repeats that epoch and writes the same `best.pth` again.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from recbole.trainer import PretrainTrainer, Trainer

from recbole_attn.checkpoint import load_checkpoint, save_atomically
from recbole_attn.errors import UserError
from recbole_attn.matching import check_dataset, check_model, identity
from recbole_attn.resume import ResumableTrainer, without_modules
from recbole_attn.streaming import StreamingTrainer


class Interrupted(UserError):
    """Ctrl-C. Training stopped; the text says how to continue."""


class AttnTrainer(StreamingTrainer, ResumableTrainer):
    """Trains as RecBole's Trainer does and leaves a run that can be continued exactly.

    Models that offer the scores of a range of items are ranked in chunks.
    """

    def __init__(self, config, model):
        try:
            Path(config["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)  # safe beside another process
            super().__init__(config, model)
        except OSError as error:
            raise UserError(f"cannot write to {error.filename}: {error.strerror}; choose another folder") from error
        self.eval_step = min(config["eval_step"], self.epochs)  # a subclass may have lowered `epochs` since it was set
        self.run_id = uuid.uuid4().hex  # from the operating system: draws nothing from the seeded generators

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
        self._save({**self._state(next_epoch - 1), "continuation": self._training_state()}, self.last_file)
        self._resumable = self._saves

    def _state(self, epoch: int) -> dict[str, Any]:
        """A checkpoint in RecBole's format, and whose it is."""
        return {
            "config": self.config,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": self.best_valid_score,
            "state_dict": self.model.state_dict(),
            "other_parameter": without_modules(self.model.other_parameter()),
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
            UserError: no epoch was the best; the checkpoint is missing, damaged, or of another model or epoch.
        """
        if eval_data and load_best_model:
            self._require_best(model_file)
            path = model_file or self.saved_model_file
            checkpoint = load_checkpoint(path)
            check_model(checkpoint, self.config, self.model)
            if not model_file and self.best_epoch not in (None, checkpoint["epoch"]):
                raise UserError(
                    f"{path}: holds epoch {checkpoint['epoch']}, which training on did not find the best again, as it "
                    f"did epoch {self.best_epoch}; train anew, or resume with the settings and threads of before"
                )
            self._load_weights(checkpoint)
            self.logger.info(f"Evaluating {path}, written in epoch {checkpoint['epoch']}")
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def _require_best(self, model_file) -> None:
        if model_file or self.best_epoch is not None or not self.history or Path(self.saved_model_file).exists():
            return
        scores = [epoch.valid_score for epoch in self.history if epoch.valid_score is not None]
        if scores:
            what = f"{self.valid_metric} was {scores[-1]} and never better in {len(scores)} validations"
            raise UserError(f"no epoch is the best: {what}; choose another valid_metric, or a lower learning_rate")
        what = f"{len(self.history)} epochs are done and none was validated"
        raise UserError(f"no epoch is the best: {what}; set eval_step = {self.eval_step} lower, or train on")


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
