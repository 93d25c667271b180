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
    found = {row: ranks for row, ranks in _latest(folder, dataset).items() if metric in ranks[0].metrics}
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


def _latest(folder: Path, dataset: str) -> dict[str, list[Ranks]]:
    """By row, what each of its seeds found with the settings that it was trained with last."""
    found: dict[str, dict[int, dict]] = {}
    files = sorted(folder.glob(f"*/{RESULT}"), key=lambda file: file.stat().st_mtime)
    for file in files:
        result = {**(read_json(file) or {}), "file": file}
        if result.get("config", {}).get("dataset") == dataset:
            seeds = found.setdefault(result["row"], {})
            if any(_settings(other) != _settings(result) for other in seeds.values()):
                seeds.clear()
            seeds[result["seed"]] = result
    return {
        row: [Ranks.from_file(seeds[seed]["file"].with_name(RANKS)) for seed in sorted(seeds)]
        for row, seeds in found.items()
    }


def _settings(result: dict) -> dict:
    return {**result["settings"], "seed": None}
