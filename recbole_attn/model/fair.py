"""FAIR: RPG with focused attention, robustness to noise, and mutual information (arXiv 2512.11254).

    L = L_RPG + α·L_noise + β·L_info

That these are its three parts is said in the paper's abstract. How each is computed is our reconstruction; see
attention/focused.py and contrastive.py. L_noise compares states of a history with those of a second pass, in which a
share of its items' codes is left out and a share drawn anew; L_info compares a state with its target's vector. Both
take the states that have a target: the last ones in training on prefixes, all that count in training on sequences.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recbole_attn.attention import Attention
from recbole_attn.attention.base import one_of
from recbole_attn.contrastive import NOISE_LOSSES, info_nce, noise_loss
from recbole_attn.model.focused_sasrec import focused_attention
from recbole_attn.model.rpg import RPG


class Losses(NamedTuple):
    """Three scalars to be summed for training, and to be logged apart; of what is switched off, 0."""

    generation: Tensor
    noise: Tensor
    information: Tensor


class FAIR(RPG):
    """Focused attention on RPG with two objectives beside it; its control is RPG."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        _check(config)
        self.noise_weight, self.info_weight = config["alpha"], config["beta"]
        self.noise_loss, self.margin = config["noise_loss"], config["margin"]
        self.mask_rate, self.replace_rate = config["mask_rate"], config["replace_rate"]
        self.info_temperature = config["info_temperature"]

    def build_attention(self, config, depth: int) -> Attention:
        return focused_attention(config, depth)

    def calculate_loss(self, interaction) -> Losses:
        """The three losses of a training batch, weighted. Sum them, then go backward."""
        target = interaction[self.POS_ITEM_ID]
        clean, *noisy = self._passes(interaction)
        targets = target[target != 0]
        generation = self.item_embedding.loss(clean, targets)
        noise = information = generation.new_zeros(())
        if self.noise_weight:
            users = interaction[self.USER_ID].view(-1, *(1,) * (target.dim() - 1)).expand_as(target)[target != 0]
            noise = self.noise_weight * noise_loss(self.noise_loss, clean, noisy[0], users, self.margin)
        if self.info_weight:
            information = self.info_weight * self._information(clean, targets)
        return Losses(generation, noise, information)

    def _passes(self, interaction) -> tuple[Tensor, ...]:
        """The states (T, D) before the targets, and where noise is on, those of the histories with noise.

        Both go through the encoder as one batch.
        """
        item_seq, (rows, read) = interaction[self.ITEM_SEQ], self._places(interaction)
        if not self.noise_weight:
            return (self._read(self.item_embedding, item_seq, rows, read).flatten(0, -2),)
        twice = item_seq.repeat_interleave(2, 0)
        if rows is not None:
            hidden = self._read(self._with_and_without_noise, twice, rows.repeat_interleave(2, 0), None).squeeze(1)
            return hidden[::2], hidden[1::2]
        places = torch.arange(twice.numel(), device=twice.device).view(len(item_seq), 2, -1).transpose(0, 1)
        return self._read(self._with_and_without_noise, twice, None, places.flatten(1)[:, read].flatten()).chunk(2)

    def _with_and_without_noise(self, item_seq: Tensor) -> Tensor:
        """Vectors (B, n, D) of histories that stand there twice, one after the other; each second one gets noise."""
        once = item_seq[::2]
        noisy = self.item_embedding.perturbed(once, self.mask_rate, self.replace_rate)
        return torch.stack([self.item_embedding(once), noisy], 1).flatten(0, 1)

    def _information(self, states: Tensor, targets: Tensor) -> Tensor:
        return info_nce(states, self.item_embedding(targets), targets, self.info_temperature)


def _check(config) -> None:
    for name in ("alpha", "beta", "margin"):
        if config[name] < 0:
            raise ValueError(f"{name} must be at least 0, not {config[name]}")
    for name in ("mask_rate", "replace_rate"):
        if not 0 <= config[name] < 1:
            raise ValueError(f"{name} must lie in [0, 1), not {config[name]}")
    changed = config["mask_rate"] + config["replace_rate"]
    if changed > 1:
        raise ValueError(f"mask_rate and replace_rate must be at most 1 together, not {changed}")
    if not config["info_temperature"] > 0:
        raise ValueError(f"info_temperature must be greater than 0, not {config['info_temperature']}")
    one_of("noise_loss", config["noise_loss"], NOISE_LOSSES)
