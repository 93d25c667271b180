"""AC-TSR for any backbone: calibrated attention in chosen layers, and an attacker trained beside (CIKM 2023)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from recbole_attn.attention import Adversary, Attention, Calibrated, Spatial
from recbole_attn.encoder import Encoded
from recbole_attn.model.backbone import Backbone, chosen_layers, softmax_attention
from recbole_attn.objective import Losses, adversarial_losses, held

PRESETS: dict[str, dict[str, Any]] = {
    "clean": {
        "renorm": "divide",
        "dropout_on": "weights",
        "noise": "attention",
        "keep_mask": "sigmoid",
        "penalty": "rms",
        "w": 0.3,
    },
    "released": {
        "renorm": "softmax",
        "dropout_on": "maps",
        "noise": "gaussian",
        "keep_mask": "softmax",
        "penalty": "frobenius",
        "w": 0.03,
        "gate_width": 50,
    },
}


class CalibratedModel(Backbone):
    """Calibrated attention in `attention_layers`, softmax attention in the others."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        for name, value in overruled(config).items():
            self.logger.info(f"preset {config['preset']}: {name} = {config[name]} is set, in place of {value}")
        self.penalty_weight = expand(config)["w"]
        if self.penalty_weight < 0:
            raise ValueError(f"w must be at least 0, not {self.penalty_weight}")

    def has_positions(self, config) -> bool:
        return config["position_embedding"]

    def build_attention(self, config, depth: int) -> Attention:
        chosen = chosen_layers(config["attention_layers"], config["n_layers"])
        if depth not in chosen:
            return softmax_attention(config)
        if config["attacked_layers"] not in ("last", "all"):
            raise ValueError(f"attacked_layers must be last or all, not {config['attacked_layers']!r}")
        hidden_size, n_heads, settings = config["hidden_size"], config["n_heads"], expand(config)
        if n_heads < 1 or hidden_size % n_heads:
            raise ValueError(f"hidden_size must be a multiple of n_heads, not {hidden_size} with n_heads={n_heads}")
        return Calibrated(
            hidden_size=hidden_size,
            n_heads=n_heads,
            dropout=config["attn_dropout_prob"],
            spatial=Spatial(
                head_size=hidden_size // n_heads, use_order=config["use_order"], use_distance=config["use_distance"]
            ),
            adversary=_adversary(config, settings) if config["use_adversarial"] else None,
            combine=config["combine"],
            gate=config["gate"],
            gate_width=self._gate_width(config),
            renorm=settings["renorm"],
            dropout_on=settings["dropout_on"],
            attacks=config["attacked_layers"] == "all" or depth == max(chosen),
        )

    def _gate_width(self, config) -> int:
        """What the user says; a preset's own width, if it has one, gives way to the longest history."""
        if config["gate_width"] is None:
            return max(PRESETS[config["preset"]].get("gate_width", 0), self.n_positions)
        if config["gate_width"] < self.n_positions:
            longest = "the longest history" + (" and the masked item after it" if self.added_positions else "")
            raise ValueError(f"gate_width must be at least {self.n_positions}, {longest}, not {config['gate_width']}")
        return config["gate_width"]

    def calculate_loss(self, interaction) -> Losses:
        """Both losses of a training batch; the second is 0 where nothing is attacked. Sum them, then go backward."""
        losses = self._losses(*self.learn(interaction))
        self._count_step()  # now that gradients have been taken, of which a compiled pass needs the step as it was
        return losses

    def _losses(self, encoded: Encoded, loss: Callable[[Tensor], Tensor]) -> Losses:
        calibrated = loss(encoded.hidden)
        if encoded.shadow is None:
            return Losses(calibrated, calibrated.new_zeros(()))
        attackers = [p for module in self.modules() if isinstance(module, Adversary) for p in module.parameters()]
        theirs = set(map(id, attackers))
        others = [p for p in self.parameters() if id(p) not in theirs]
        with held(others):  # the attack moves nothing on the way from the states to the loss
            attacked = loss(encoded.shadow)
        penalties = [penalty for penalty in encoded.aux if penalty is not None]
        return adversarial_losses(calibrated, attacked, penalties, self.penalty_weight, attackers, others)

    def _count_step(self) -> None:
        if self.training:
            for module in self.modules():
                if isinstance(module, Calibrated):
                    module.advance()


def expand(config) -> dict[str, Any]:
    """The settings that presets own: the user's value, or else that of `preset`.

    Raises:
        ValueError: an unknown preset.
    """
    if config["preset"] not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, not {config['preset']!r}")
    preset = PRESETS[config["preset"]]
    return {name: value if config[name] is None else config[name] for name, value in preset.items()}


def overruled(config) -> dict[str, Any]:
    """The preset's values that the user's take the place of."""
    mine = expand(config)
    return {name: value for name, value in PRESETS[config["preset"]].items() if mine[name] != value}


def _adversary(config, settings: dict[str, Any]) -> Adversary:
    return Adversary(
        hidden_size=config["hidden_size"],
        n_heads=config["n_heads"],
        keep_mask=settings["keep_mask"],
        keep_start=config["keep_start"],
        noise=settings["noise"],
        renorm=settings["renorm"],
        penalty=settings["penalty"],
    )
