"""What the numbers say, in plain language: a difference is one where its 95 % interval leaves 0 out."""

from __future__ import annotations

import numpy as np

from recbole_attn.analysis.estimates import Estimate, estimate
from recbole_attn.analysis.findings import Findings, Inside
from recbole_attn.analysis.maps import Maps
from recbole_attn.analysis.measures import NAMES
from recbole_attn.compare.statistics import LEVEL, Comparison

DIGITS = {"items read": 1, "distance": 2, "entropy": 2}
_SHORT = 40  # letters of a title


def signed(value: float, digits: int) -> str:
    """+1.20 or −1.20."""
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(found: Estimate | Comparison, digits: int) -> str:
    """The 95 % interval."""
    return f"{LEVEL * 100:.0f} % interval {signed(float(found.low), digits)} to {signed(float(found.high), digits)}"


def verdict(mean: float, found: Estimate | Comparison, digits: int, more: str = "more", less: str = "less") -> str:
    """Is there a difference, and which way; `mean` is that of the difference."""
    numbers = f"difference {signed(mean, digits)}, {interval(found, digits)}"
    if not found.low * found.high > 0:
        return f"no difference shows ({numbers})"
    return f"{more if mean > 0 else less} ({numbers})"


def digits_of(measure: str) -> int:
    return DIGITS.get(measure, 3)


def of_measure(found: Findings, measure: str) -> str:
    """What one measure, averaged over trainings, layers and heads, says of every row against the control."""
    said = f"{NAMES[measure][0].upper()}{NAMES[measure][1:]}."
    drawn = "Drawn: heads of each first training, with 95 % intervals. Means over heads and all trainings:"
    return " ".join([said, drawn, *(_of_row(found, row, measure, digits_of(measure)) for row in found.rows)])


def _of_row(found: Findings, row: Inside, measure: str, digits: int) -> str:
    before, after = row.measures.by_user(measure)
    mean = float(estimate(after).mean)
    if not np.isfinite(mean):
        return f"{row.name}: cannot be measured."
    text = f"{row.name}: {mean:.{digits}f}"
    if row.measures.changed:
        change = estimate(after - before)
        first = f"{float(estimate(before).mean):.{digits}f}"
        text += f"; against its first map, {first}, {verdict(float(change.mean), change, digits)}"
    if found.base is not None and row is not found.base:
        difference = estimate(after - found.base.measures.by_user(measure)[1])
        text += f"; against {found.base.name} {verdict(float(difference.mean), difference, digits)}"
    return text + "."


def of_average(found: Findings, row: Inside, depth: int) -> str:
    """What an averaged map shows, and what the mechanism changes in it."""
    text = (
        f"Mean over {len(found.sample):,} users, of the first training; rows read, columns are read, both in steps "
        "before the position that predicts (0, bottom right); empty where nothing may be read."
    )
    place = list(NAMES).index("distance")
    before, after = (stage[0, :, depth, :, place].mean(1) for stage in (row.measures.before, row.measures.after))
    names = list(row.average.layers[depth])
    if "keep-mask" in names:
        text += f" {_of_keep_mask(row.average.layers[depth]['keep-mask'])}"
    if len(names) == 1:
        return f"{text} The position that predicts looks back {float(estimate(after).mean):.2f} steps on average."
    change = estimate(after - before)
    means = (
        f"from {float(estimate(before).mean):.2f} steps ({names[0]}) to {float(estimate(after).mean):.2f} ({names[-1]})"
    )
    how = verdict(float(change.mean), change, 2, "further back", "nearer")
    return f"{text} The mean distance looked back goes {means}: {how}."


def _of_keep_mask(kept: np.ndarray) -> str:
    """How much an attacker takes in the mean map: a calibrator that makes up for nothing changes nothing."""
    taken = 1 - np.nanmin(np.where(kept == 0, np.nan, kept))
    return f"On average the attacker takes {'less than 0.01 %' if taken < 1e-4 else f'up to {taken:.2%}'} of a weight."


def of_user(maps: Maps, depth: int, target: str, shown: int) -> str:
    """The items that the position which predicts reads most, of the `shown` newest ones, in a layer's final map."""
    final = list(maps.layers[depth].values())[-1][:, -1].mean(0)
    size = np.abs(final) / max(np.abs(final).sum(), 1e-12)
    older = max(0, len(size) - shown)
    best = older + np.argsort(-size[older:], kind="stable")[:3]
    named = [f"“{shorten(maps.labels[i])}” ({size[i]:.0%}, {_steps(len(size) - 1 - i)})" for i in best]
    rest = f" {size[:older].sum():.0%} goes further back than is shown." if older else ""
    return (
        f"The item to predict is “{shorten(target)}”. In the final map, mean over heads, most weight of the items "
        f"shown goes to {'; '.join(named)}.{rest} Titles are those of the rows, the newest at the bottom; columns have "
        "the same order."
    )


def _steps(back: int) -> str:
    return "the reading position itself" if back == 0 else f"{back} back"


def shorten(text: str, length: int = _SHORT) -> str:
    """A title, cut where it is long."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def of_erasing(found: Findings) -> list[str]:
    """Do weights mean anything, and more so after mending?"""
    parts = []
    for row in found.rows:
        stages = [("first map", 0), ("final map", 1)] if row.measures.changed else [("weights", 1)]
        parts += [_erased(row, name, stage) for name, stage in stages]
    meaning = {row.name: row.erasures.beyond_random[..., 0] for row in found.rows}
    for row in found.rows:
        if row.measures.changed:
            said = _more_meaning(meaning[row.name][:, 1] - meaning[row.name][:, 0])
            parts.append(f"{row.name}'s final weights against those of its first map: {said}.")
    for base, row in found.pairs:
        said = _more_meaning(meaning[row.name][:, 1] - meaning[base.name][:, 1])
        parts.append(f"{row.name}'s final weights against {base.name}'s: {said}.")
    return parts


def _more_meaning(values: np.ndarray) -> str:
    """Whether the most attended item matters more, beyond a random one; (users,) differences of two maps."""
    difference = estimate(values)
    return verdict(float(difference.mean), difference, 3, "more meaning", "less meaning")


def _erased(row: Inside, name: str, stage: int) -> str:
    most, least, random = 2 ** estimate(row.erasures.size[:, stage]).mean
    beyond = estimate(row.erasures.beyond_random[:, stage])
    return (
        f"{row.name}, {name}: × {most:.2f} without the most attended item, × {random:.2f} without a random one, "
        f"× {least:.2f} without the least attended one. Against the random one, in log₂: the most attended item "
        f"matters {_matters(beyond.at(0))}, the least attended one {_matters(beyond.at(1))}."
    )


def _matters(beyond: Estimate) -> str:
    told = "as much, as far as shows" if not beyond.certain else "more" if beyond.mean > 0 else "less"
    return f"{told} ({signed(float(beyond.mean), 3)}, {interval(beyond, 3)})"


def of_noise(found: Findings, kind: int) -> str:
    """What the largest share of one kind of noise costs every row."""
    first = found.rows[0].robustness
    parts = [f"{first.kinds[kind].capitalize()} {first.shares[-1]:.0%} of each history's items:"]
    for row in found.rows:
        clean, noisy = row.robustness.curve[kind, 0], row.robustness.curve[kind, -1]
        parts.append(f"{row.name} goes from {clean:.4f} to {noisy:.4f}.")
    for base, row in found.pairs:
        difference = estimate(row.robustness.loss[:, kind] - base.robustness.loss[:, kind])
        parts.append(f"What {row.name} loses, against {base.name}: {verdict(float(difference.mean), difference, 4)}.")
    return " ".join(parts)
