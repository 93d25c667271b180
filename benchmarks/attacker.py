"""What the attacker of AC-TSR takes of the weights that predict, and how far the map moves for it.

    python benchmarks/attacker.py 'benchmarks/results/actsr-w/*/training/best.pth'

For each checkpoint of ACTSR or ACBERT4Rec, layer by layer, over the test histories and the heads: the mean of 1-P over
the keys of the row that predicts, and half the summed difference of its weights before and after calibration, 0 for a
map that stays, 1 for one that shares no weight with what it was. Where 1-P is the same for every key, calibration
changes nothing, whether it is 0 or 1. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import glob
import json
import logging
from pathlib import Path
from typing import NamedTuple


class Layer(NamedTuple):
    """Means of one layer."""

    taken: float
    moved: float


def measure(path: Path) -> list[Layer]:
    """The layers with an attacker of a checkpoint, from the first to the last.

    Raises:
        SystemExit: it has none.
    """
    import torch

    from recbole_attn.analysis.cases import load_cases
    from recbole_attn.analysis.inside import at_read, look
    from recbole_attn.checkpoint import load_checkpoint
    from recbole_attn.recommender import restore

    checkpoint = load_checkpoint(path)
    _, model = restore(checkpoint)
    cases, _ = load_cases(checkpoint["config"])
    found: list[list[torch.Tensor]] = []
    for seen in look(model, cases):
        attacked = [layer for layer in seen.maps if "keep-mask" in layer]
        if not attacked:
            raise SystemExit(f"{path}: {checkpoint['config']['model']} has no attacker; give ACTSR's or ACBERT4Rec's")
        keys = (torch.arange(attacked[0]["plain"].size(-1)) <= seen.read[:, None])[:, None]
        rows = []
        for layer in attacked:
            kept, before, after = (
                at_read(layer[name], seen.read) for name in ("keep-mask", "spatially calibrated", "combined")
            )
            taken = ((1 - kept) * keys).sum(-1) / keys.sum(-1)
            rows.append(torch.stack([taken.mean(-1), (after - before).abs().sum(-1).mean(-1) / 2]))
        found.append(rows)
    layers = [torch.cat(parts, -1).mean(-1).tolist() for parts in zip(*found)]
    return [Layer(*layer) for layer in layers]


def name_of(path: Path) -> str:
    """The row and the seed of a comparison's trial; of another run, its folder."""
    trial = path.parents[1] / "trial.json"
    if not trial.is_file():
        return path.parent.name
    about = json.loads(trial.read_text(encoding="utf-8"))
    return f"{about['row']}, seed {about['seed']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", help="paths of best.pth, or patterns of them")
    args = parser.parse_args()
    paths = [Path(path) for pattern in args.checkpoints for path in sorted(glob.glob(pattern))]
    if not paths:
        parser.error(f"checkpoints={' '.join(args.checkpoints)}: no such file")
    logging.disable(logging.WARNING)
    print("| checkpoint | layer | taken | moved |\n|---|---|---|---|")
    for path in paths:
        for number, layer in enumerate(measure(path), 1):
            print(f"| {name_of(path)} | {number} | {layer.taken:.4f} | {layer.moved:.4f} |", flush=True)


if __name__ == "__main__":
    main()
