"""What the page says, in its order."""

from __future__ import annotations

from recbole_attn.analysis.findings import Findings
from recbole_attn.analysis.groups import paired
from recbole_attn.analysis.page import drawings, grouped, sentences, tables
from recbole_attn.analysis.page.scales import SHOWN
from recbole_attn.compare.report.blocks import Section, Text


def page(found: Findings) -> list[Section]:
    """The whole report."""
    all_tried = grouped.tried(found)
    parts = [
        Section("What was looked into", [tables.subjects(found), Text("In short:", overall(found)), *_limits(found)]),
        *drawings.averages(found),
        Section("Measures", list(drawings.measures(found))),
        Section("Measures of each layer and head", [tables.by_head(found)]),
        Section("Do the weights mean anything?", drawings.erasing(found)),
        Section("Noise in the histories", list(drawings.noise(found))),
        Section("Where it matters", list(drawings.groups(found, all_tried))),
        Section("How much of that is chance", grouped.counted(all_tried)),
        Section("User by user", [tables.users(found)] if found.pairs else []),
        Section("Where to calibrate, and with what", list(tables.ablation(found))),
        *drawings.chosen(found),
        Section("How to read this", [_reading(found)]),
    ]
    return [part for part in parts if part.blocks]


def overall(found: Findings) -> list[str]:
    """One sentence for each row, on how well it predicts."""
    lines = {row.name: f"{row.name}: NDCG@{found.k} {row.scores.mean():.4f}" for row in found.rows}
    for base, row in found.pairs:
        one = paired(row.scores, base.scores, found.cases.user)
        lines[row.name] += f"; against {base.name} {sentences.verdict(one.difference, one, 4, 'better', 'worse')}"
    return [f"{line}." for line in lines.values()]


def _limits(found: Findings) -> list[Text]:
    doubts = []
    if len(found.sample) < len(found.cases.user):
        doubts.append(
            f"Maps, measures, erasures and noise are those of {len(found.sample):,} users drawn from all; "
            "--max_users=N draws more."
        )
    if any(len(row.seeds) < 3 for row in found.rows):
        doubts.append("Fewer than 3 trainings of a model: what sets models apart may be the seed.")
    if found.base is None:
        doubts.append("No control to compare with; name one with --baseline.")
    return [Text("To keep in mind:", doubts, warning=True)] if doubts else []


def _reading(found: Findings) -> Text:
    return Text(
        "Of all numbers and figures:",
        [
            "Every interval is a 95 % interval over users, for one number by itself: of twenty such, one leaves 0 out "
            "by chance. Intervals over users say nothing of another training; seeds do.",
            "Maps, what is said below them, and measures of single heads are those of each model's first training: "
            "heads of two trainings have no common order. All else is of all trainings, averaged within each user "
            "before intervals are taken. Where the split leaves a user several targets, it is the last one.",
            "Measures are taken in the row that predicts, of the first map and of the final one, in evaluation mode.",
            "Attention to an item, for erasing, is the mean of all layers and heads; the last item is never erased. An "
            "erased item leaves a hole that nothing reads, and all others keep their places: closing the gap would "
            "move them, to which models with embedded positions answer as well.",
            "Noise disturbs the items that the model sees: random items replace some or are inserted (the oldest fall "
            "out), some are dropped, or change places. Every model meets the same noise; bars are the standard "
            "deviation over trainings and draws. Shares are rounded to whole items: a small share of a short history "
            "is none, and one item alone changes no places.",
            "The related item is the one of the history that training users had together with the target most often "
            f"for how popular it is (cosine). Maps show the {SHOWN} newest positions; the .npz files beside this page "
            "hold all.",
            "Colours of maps: in one layer, and for one user or the mean, the weights of all models share a scale, and "
            "so do maps with negative weights, correlations (R), keep-masks and changes. They go by the square root of "
            "the value, those of keep-masks by the value itself; empty is what may not be read.",
        ],
    )
