"""RecBole's trainer, watched: what each epoch did, a bar with the loss and the time left, a stop when it diverges."""

from __future__ import annotations

import math
import sys
from time import perf_counter
from typing import NamedTuple

import torch
from recbole.trainer import Trainer
from tqdm import tqdm

from recbole_attn.errors import UserError


class Epoch(NamedTuple):
    """What one epoch did. The `valid_` ones are None in an epoch without validation.

    `train_losses` are the parts of `train_loss` where a model has several, in its order; they are sums over batches.
    """

    epoch: int
    train_loss: float
    train_seconds: float
    valid_score: float | None = None
    valid_result: dict | None = None
    valid_seconds: float | None = None
    train_losses: tuple[float, ...] | None = None


class WatchedTrainer(Trainer):
    """Trains as RecBole's Trainer does; a loss or a parameter that is not finite raises UserError.

    Attributes:
        history: one `Epoch` per finished epoch.
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        self.history: list[Epoch] = []

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        start = perf_counter()
        self._epoch, self._batch, self._loss_sum = epoch_idx, 0, 0.0
        with _bar(epoch_idx, len(train_data), show_progress) as self._bar:
            loss = super()._train_epoch(train_data, epoch_idx, loss_func, show_progress=False)
        self._check_parameters()
        parts = loss if isinstance(loss, tuple) else None
        total = loss if parts is None else sum(parts)
        self.history.append(Epoch(epoch_idx, total, perf_counter() - start, train_losses=parts))
        return loss

    def _check_nan(self, loss):
        """RecBole hands over the loss of every batch here, before the step: the place to watch training from."""
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}")
        self._batch += 1
        self._loss_sum += value
        self._bar.set_postfix_str(f"loss {self._loss_sum / self._batch:.4f}", refresh=False)
        self._bar.update()

    def _check_parameters(self) -> None:
        """The last step of an epoch may break the model after its last loss was fine: such a model is not saved."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise self._diverged(f"{name} is no longer finite")

    def _diverged(self, what: str) -> UserError:
        cures = [f"a learning_rate lower than {self.learning_rate}"]
        cures += [] if self.clip_grad_norm else ["clip_grad_norm={'max_norm': 5}"]
        cures += ["enable_amp=False"] if self.enable_amp else []
        cures += ["precision=float32"] if self.config["precision"] == "bf16" else []
        return UserError(f"epoch {self._epoch}, batch {self._batch}: {what}; try {' or '.join(cures)}")

    def _valid_epoch(self, valid_data, show_progress=False):
        start = perf_counter()
        score, result = super()._valid_epoch(valid_data, show_progress)
        self.history[-1] = self.history[-1]._replace(
            valid_score=score, valid_result=result, valid_seconds=perf_counter() - start
        )
        return score, result

    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """RecBole's `evaluate`, without a bar where nobody sees it."""
        return super().evaluate(eval_data, load_best_model, model_file, shown(show_progress))


def shown(show_progress: bool) -> bool:
    """Is a bar asked for, and is there a terminal to draw it on?"""
    return show_progress and sys.stderr.isatty()


def _bar(epoch: int, batches: int, show_progress: bool) -> tqdm:
    return tqdm(total=batches, desc=f"Train {epoch:>5}", ncols=100, leave=False, disable=not shown(show_progress))
