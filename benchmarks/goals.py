"""The ratios that are promised: by issue "Fast" of epochs, and by those of AC-TSR and AWRSR of single steps.

Those of epochs are computed from the medians of one run of `epochs.py`, those of steps from the turns of one of
`train_step.py`.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

RELEASED, QUIET = "SASRec@released", "SASRec@recbole"
BUCKETS = "length_buckets=8"
PREFIX = "training=prefix"  # FAIR's own is the sequence
MENDED = ("ACTSR", "AWRSR", "FAIR")
FAST = f"AttnSASRec:{PREFIX},{BUCKETS}"


class Goal(NamedTuple):
    """`measure` of the row `slow` over that of the row `fast`, on one data set; None where nothing was promised."""

    dataset: str
    measure: str
    slow: str
    fast: str
    at_least: float | None


GOALS = [
    Goal("amazon-beauty", "epoch_s", RELEASED, FAST, 12),
    Goal("amazon-beauty", "epoch_s", QUIET, FAST, 8),
    Goal("amazon-beauty", "epoch_s", RELEASED, "AttnSASRec", None),
    Goal("amazon-beauty", "epoch_s", QUIET, "AttnSASRec", None),
    Goal("ml-1m", "epoch_s", RELEASED, "AttnSASRec:training=sequence", 25),
    Goal("amazon-beauty", "eval_s", RELEASED, FAST, 4),
    Goal("amazon-beauty", "train_mib", RELEASED, FAST, 2),
    Goal("amazon-beauty", "eval_mib", RELEASED, FAST, 2),
    *(Goal("amazon-beauty", "epoch_s", RELEASED, FAST.replace("AttnSASRec", name), 4) for name in MENDED),
    Goal("ml-1m", "prepare_s", RELEASED, "AttnSASRec", 5),
    Goal("ml-1m", "prepare_mib", RELEASED, "AttnSASRec", 4),
]
NAMES = {
    "epoch_s": "training epoch",
    "eval_s": "evaluation",
    "train_mib": "peak memory of training",
    "eval_mib": "peak memory of evaluation",
    "prepare_s": "preparation",
    "prepare_mib": "peak memory of preparation",
}


def verdicts(medians: dict[tuple[str, str], dict[str, float]]) -> list[str]:
    """A line of Markdown for each goal whose two rows were measured.

    Args:
        medians: by data set and row.
    """
    return [
        _line(goal, medians[goal.dataset, goal.slow][goal.measure] / medians[goal.dataset, goal.fast][goal.measure])
        for goal in GOALS
        if (goal.dataset, goal.slow) in medians and (goal.dataset, goal.fast) in medians
    ]


def _line(goal: Goal, ratio: float) -> str:
    what = f"{goal.dataset}, {NAMES[goal.measure]}: {goal.slow} / {goal.fast} = {ratio:.1f}"
    if goal.at_least is None:
        return f"* {what} (shown only)"
    return f"* {what}, goal {goal.at_least}: {'reached' if ratio >= goal.at_least else '**not reached**'}"


class StepGoal(NamedTuple):
    """`measure` of `row` over that of `base`, at `STEP_LENGTH`."""

    row: str
    base: str
    measure: str
    at_most: float


STEP_LENGTH = 50
REFINEMENTS = ("simple", "value", "additive")
STEP_GOALS = [
    StepGoal("ACTSR", "SASRec", "train_ms", 1.5),
    StepGoal("ACTSR", "SASRec", "train_mib", 2),
    StepGoal("ACTSR", "SASRec", "eval_ms", 1.2),
    *(
        StepGoal(f"{model}:refinement={name}", base, measure, 1.3)
        for model, base in (("AWRSR", "AttnSASRec"), ("AWRSTOSA", "STOSA"))
        for name in REFINEMENTS
        for measure in ("train_ms", "eval_ms")
    ),
]
STEP_NAMES = {"train_ms": "training step", "train_mib": "memory of a training step", "eval_ms": "evaluation step"}


def ratios(row: list[float], base: list[float]) -> list[float]:
    """Turn by turn; NaN where the base is not above 0."""
    return [value / other if other > 0 else float("nan") for value, other in zip(row, base)]


def step_verdicts(length: int, turns: dict[str, dict[str, list[float]]]) -> list[str]:
    """A line for each goal of this length whose two rows were measured.

    Args:
        turns: by model and measure.
    """
    return [
        _step_line(goal, ratios(turns[goal.row][goal.measure], turns[goal.base][goal.measure]))
        for goal in STEP_GOALS
        if length == STEP_LENGTH and goal.row in turns and goal.base in turns
    ]


def _step_line(goal: StepGoal, found: list[float]) -> str:
    ratio = statistics.median(found)
    what = f"{STEP_NAMES[goal.measure]}, {goal.row} / {goal.base} = {ratio:.2f} ({min(found):.2f}–{max(found):.2f})"
    return f"{what}, goal at most {goal.at_most}: {'reached' if ratio <= goal.at_most else '**not reached**'}"
