"""Calibrators on some layers only, and each calibrator alone: what the comparison `calibrator_layers` trained.

Trained by `python run_recbole_attn.py --config_files=benchmarks/calibrator_layers.yaml`, read from its results.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_attn.compare.ranks import Ranks
from recbole_attn.compare.statistics import Comparison, by_user, compare_paired
from recbole_attn.compare.store import RANKS, RESULT, read_json

NAME = "calibrator_layers"
CONTROL = "none"


class Ablated(NamedTuple):
    """One row of the comparison: its trainings' scores, and how it differs from the row `none`."""

    name: str
    scores: np.ndarray
    against: Comparison | None


def ablation(folder: Path, dataset: str, metric: str) -> list[Ablated]:
    """The rows that were trained on `dataset`, as far as they are there; nothing without the row `none`."""
    found: dict[str, list[Ranks]] = {}
    for file in sorted(folder.glob(f"*/{RESULT}")):
        result = read_json(file) or {}
        if result.get("config", {}).get("dataset") == dataset:
            found.setdefault(result["row"], []).append(Ranks.from_file(file.with_name(RANKS)))
    if CONTROL not in found:
        return []
    users = {name: by_user([(rank.user, rank.metrics[metric]) for rank in seeds]) for name, seeds in found.items()}
    return [
        Ablated(
            name,
            np.array([rank.metrics[metric].mean() for rank in seeds]),
            None if name == CONTROL else compare_paired(users[name], users[CONTROL]),
        )
        for name, seeds in found.items()
    ]
