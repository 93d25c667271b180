"""What a reader must know before believing a table."""

from __future__ import annotations

from hashlib import sha256

from recbole_attn.compare.outcome import WAITING, Line, Outcome, Table
from recbole_attn.compare.ranks import Ranks
from recbole_attn.protocol import splits_along_time

_MANY_TIES = 0.01
_FEW_SEEDS = 3
_UNLIKE, _SHORT = 1.5, 0.5  # times as long as with another seed; seconds that say nothing


def warnings(outcome: Outcome, table: Table) -> list[str]:
    """One sentence for each doubt."""
    return [
        *_data(table),
        *_seeds(outcome, table),
        *_limits(table),
        *_ties(table),
        *_splits(table),
        *_sampling(table),
        *_costs(table),
        *_tuning(outcome),
    ]


def remaining(table: Table) -> list[str]:
    """What the protocol could not make equal, and the rows it concerns."""
    found: dict[str, list[str]] = {}
    for line in table.finished:
        for text in line.results[0]["remaining"]:
            found.setdefault(text, []).append(line.name)
    return [f"{', '.join(names)}: {text}." for text, names in found.items()]


def failed(outcome: Outcome, table: Table) -> list[str]:
    """The trials that failed, those of grids too, and why; seeds of one row that failed alike are one line."""
    return [f"{trials}: {reason}" for trials, reason in _without_result(outcome, table) if reason != WAITING]


def waiting(outcome: Outcome, table: Table) -> list[str]:
    """The trials that have neither finished nor failed, as `failed` names them."""
    return [trials for trials, reason in _without_result(outcome, table) if reason == WAITING]


def _without_result(outcome: Outcome, table: Table) -> list[tuple[str, str]]:
    """Trials, and the reason that they share."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in table.lines:
        for seed, reason in line.failures:
            found.setdefault((line.name, reason), []).append(str(seed))
    tried = [each for each in outcome.tried if each.dataset == table.dataset and each.reason]
    return [
        *((f"{each.row}, {each.setting}", each.reason) for each in tried),
        *((f"{name}, seed {', '.join(seeds)}", reason) for (name, reason), seeds in found.items()),
    ]


def _data(table: Table) -> list[str]:
    """Rows that were not all tested on the same targets among the same items."""
    found: dict[tuple, list[str]] = {}
    for line in table.finished:
        for result, ranks in zip(line.results, line.ranks):
            seen = (result["data"]["items"], result["data"]["test rows"], result["data_digest"], _targets(ranks))
            found.setdefault(seen, []).append(line.name)
    if len(found) < 2:
        return []
    groups = [
        f"{', '.join(dict.fromkeys(names))} ({items:,} items, {rows:,} test rows, files {digest[:8]}, "
        f"targets {targets[:8]})"
        for (items, rows, digest, targets), names in found.items()
    ]
    return [f"Rows were tested on different data, so that their metrics cannot be compared: {'; '.join(groups)}."]


def _targets(ranks: Ranks) -> str:
    """A digest of who is tested on what, in whatever order."""
    return sha256("\n".join(sorted(map("\t".join, zip(ranks.user, ranks.target)))).encode()).hexdigest()


def _seeds(outcome: Outcome, table: Table) -> list[str]:
    """Of the seeds that finished, not of those that were asked for."""
    few = {line.name: len(line.results) for line in table.finished if len(line.results) < _FEW_SEEDS}
    if not few:
        return []
    everywhere = len(few) == len(table.finished) and len(set(few.values())) == 1
    counts = str(*set(few.values())) if everywhere else ", ".join(f"{name}: {count}" for name, count in few.items())
    remedy = "add --seeds=5" if outcome.plan.seeds < _FEW_SEEDS else "the same command tries the others again"
    return [
        f"Fewer than {_FEW_SEEDS} seeds ({counts}): their spread says little, and stars say nothing of what another "
        f"seed would give; {remedy}."
    ]


def _limits(table: Table) -> list[str]:
    rows = [
        f"{line.name} ({count} of {len(line.results)} seeds)" for line in table.finished if (count := _limited(line))
    ]
    if not rows:
        return []
    limit = table.protocol["epochs"]
    return [f"Stopped by the limit of {limit} epochs, so perhaps under-trained: {', '.join(rows)}; raise epochs."]


def _limited(line: Line) -> int:
    """How many seeds the limit stopped. Models that are computed rather than trained have one epoch anyway."""
    return sum(result["stop_reason"] == "epoch limit" and not result["computed"] for result in line.results)


def _ties(table: Table) -> list[str]:
    tied = {line.name: line.average("tie_share") for line in table.finished}
    rows = [f"{name} ({share:.1%})" for name, share in tied.items() if share > _MANY_TIES]
    return (
        [f"Targets that tie with other items, so that their rank is partly chance: {', '.join(rows)}."] if rows else []
    )


def _splits(table: Table) -> list[str]:
    asked = table.protocol["eval_args"]
    if splits_along_time(asked):
        return []
    split = "Leave-one-out" if "LS" in asked["split"] else "This split"
    return [
        f"{split} leaks across time: models learn from other users' interactions that happened after a test "
        "interaction. --eval_args.split='{TS: [.8, .1, .1]}' does not."
    ]


def _sampling(table: Table) -> list[str]:
    modes = table.protocol["eval_args"]["mode"]
    sampled = {str(mode) for mode in (modes.values() if isinstance(modes, dict) else [modes]) if mode != "full"}
    if not sampled:
        return []
    return [
        f"Metrics over sampled candidates ({', '.join(sampled)}) may order models otherwise than full ranking does."
    ]


def _costs(table: Table) -> list[str]:
    """Rows whose seeds, which do the same work, took unlike times."""
    rows = []
    for line in table.finished:
        seconds = [result["seconds_per_epoch"] for result in line.results]
        if max(seconds) > max(_SHORT, _UNLIKE * min(seconds)):
            rows.append(f"{line.name} ({min(seconds):.3g} to {max(seconds):.3g})")
    if not rows:
        return []
    return [f"Costs are no measure of speed: the machine did other work. Seconds of an epoch: {', '.join(rows)}."]


def _tuning(outcome: Outcome) -> list[str]:
    untuned = [row.name for row in outcome.plan.rows if row.name not in outcome.plan.tune]
    return [f"Not tuned, unlike the others: {', '.join(untuned)}."] if outcome.plan.tune and untuned else []
