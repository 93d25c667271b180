"""How often does a row differ "significantly" from itself, trained with another seed?

    python benchmarks/seed_null.py

The paired tests of a comparison are of the trainings at hand: users vary in them, trainings do not. Here all pairs of
seeds of each row among the committed trials are compared as a comparison with one seed would compare two rows, each
trial once. Were trainings all that differs and of no effect, p < .05 would come in 5 % of the pairs. Writes
`benchmarks/results/seed_null.md`.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from pathlib import Path

from recbole_attn.compare.ranks import Ranks
from recbole_attn.compare.statistics import by_user, compare_paired
from recbole_attn.compare.store import RANKS, RESULT

RESULTS = Path(__file__).parent / "results"
METRIC, LEVELS = "ndcg@10", (0.05, 0.01)


def rows() -> dict[str, dict[int, Path]]:
    """What a row is, seed aside -> its trials by seed. A trial that two comparisons share is found once."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for file in sorted(RESULTS.glob(f"*/*/{RESULT}")):
        result = json.loads(file.read_text(encoding="utf-8"))
        hidden = ("seed", "data_path", "checkpoint_dir")
        config = {name: value for name, value in result["config"].items() if name not in hidden}
        row = json.dumps([result["model"], result["dataset"], config], sort_keys=True)
        found[row].setdefault(result["seed"], file.parent)
    return found


def differences() -> list[tuple[str, float]]:
    """(data set, p) of each pair of seeds."""
    found = []
    for row, trials in rows().items():
        values = [by_user([(ranks.user, ranks.metrics[METRIC])]) for ranks in map(read, trials.values())]
        dataset = json.loads(row)[1]
        found += [(dataset, compare_paired(one, other).p) for one, other in itertools.combinations(values, 2)]
    return found


def read(folder: Path) -> Ranks:
    return Ranks.from_file(folder / RANKS)


def main() -> None:
    found = differences()
    lines = ["| data set | pairs of seeds | p < .05 | p < .01 |", "|---|---|---|---|"]
    for dataset in dict.fromkeys(dataset for dataset, _ in found):
        chances = [p for name, p in found if name == dataset]
        shares = [f"{(count := sum(p < level for p in chances))} ({count / len(chances):.0%})" for level in LEVELS]
        lines.append(f"| {dataset} | {len(chances)} | {' | '.join(shares)} |")
    print(*lines, sep="\n")
    text = ["`python benchmarks/seed_null.py`", "", f"Paired t-test over users, {METRIC}.", "", *lines]
    (RESULTS / "seed_null.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
