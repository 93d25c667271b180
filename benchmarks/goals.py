"""The ratios that issue "Fast" promises, computed from the medians of one run of `epochs.py`."""

from __future__ import annotations

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
