"""Do refined maps collapse or explode? Their normalised entropy after training on ml-100k.

    python benchmarks/entropy.py
    python benchmarks/entropy.py --lengths 50 --seeds 2020 2021 2022 --heads 4 --name entropy-seeds
    python benchmarks/entropy.py --rows 64 --refinements value --scales learned --lengths 50

For each backbone, refinement, scale, length and seed: a model with the settings of its property file is trained, and
for every map of every layer and head the entropy of a row, over the logarithm of how many keys it sees, is averaged
over the rows of test histories that see at least five. 0 is a row that reads one item, 1 a row that reads all alike.
The maps are A, the correlations R, and the final one: R alone may be flat where the final map, which A is part of, is
not. The verdict names each map that some layer, head and seed has outside [.05, .95] on average. Writes
`benchmarks/results/<name>.md`; finished runs are kept in the `.json` beside it.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

from kept import earlier, save, settings_of

RESULTS = Path(__file__).parent / "results"
FREE = {"models", "refinements", "scales", "lengths", "seeds", "name"}
VERSION = "A, R and final, by head"  # of what is measured
FEWEST_KEYS = 5
BOUNDS = (0.05, 0.95)
ON_SASREC = ("simple", "value", "value_map", "additive", "bahdanau")
BACKBONES = {"AWRSR": ON_SASREC, "AWRSTOSA": (*ON_SASREC, "stochastic")}
MAPS = ("A", "R", "final")


def train(settings: dict[str, Any], args):
    """A trained model, its data loader for the test, and the loss of each epoch."""
    import torch
    from recbole.utils import init_seed

    from recbole_attn.config.settings import load_settings
    from recbole_attn.data import load_dataset, split
    from recbole_attn.run import begin, build_model

    values = {**settings, "training": args.training, "show_progress": False, "state": "ERROR"}
    if args.heads is not None:
        values["n_heads"] = args.heads
    config = load_settings(values.pop("model"), "ml-100k", config_dict=values).config
    begin(config)
    train_data, _, test_data = split(config, load_dataset(config))
    init_seed(config["seed"], True)
    model = build_model(config, train_data.dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])
    losses = [epoch(model, optimizer, train_data, args.rows) for _ in range(args.epochs)]
    return model.eval(), test_data, losses


def epoch(model, optimizer, batches, rows: int | None) -> float:
    """Train on all batches, or on so many rows; returns the mean loss of a batch."""
    losses, seen = [], 0
    for batch in batches:
        optimizer.zero_grad()
        loss = model.calculate_loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seen += len(batch)
        if rows is not None and seen >= rows:
            break
    return sum(losses) / len(losses)


def entropies(model, histories) -> list[dict[str, dict[str, list[float]]]]:
    """For each layer and map, head by head: mean entropy, and the shares of rows below and above the bounds."""
    import torch

    taken: list[dict[str, list]] = []

    def noting(stages):
        mine: dict[str, list] = {name: [] for name in MAPS}
        taken.append(mine)

        def noted(first, mask, rows=None):
            found = stages(first, mask, rows)
            final = list(found.values())[-1]  # of `simple` and `stochastic` it is R
            for name, weights in {**found, "final": final}.items():
                mine[name].append(of_rows(weights, mask))
            return found

        return noted

    for layer in model.encoder.layers:
        refinement = layer.attention.refinement
        refinement.stages = noting(refinement.stages)
    with torch.no_grad():
        for part in histories.split(32):
            model.encode(part, None)
    return [{name: summary(torch.cat(parts, -1)) for name, parts in mine.items()} for mine in taken]


def of_rows(weights, mask):
    """Entropy over log(visible keys) of the rows of (B, H, L, L) that are items and see enough keys, (H, M)."""
    keys = mask.sum(-1)  # (B, 1, L)
    items = mask.diagonal(dim1=-2, dim2=-1)
    entropy = -weights.xlogy(weights).sum(-1) / keys.clamp_min(2).log()
    return entropy.transpose(0, 1)[:, ((keys >= FEWEST_KEYS) & items)[:, 0]]


def summary(entropy) -> dict[str, list[float]]:
    """Of (H, M), head by head."""
    parts = {"mean": entropy, "below": (entropy < BOUNDS[0]).float(), "above": (entropy > BOUNDS[1]).float()}
    return {name: part.mean(-1).tolist() for name, part in parts.items()}


def verdict(runs: list[dict]) -> str:
    """What of a row's maps is out of bounds, in any layer, head and seed."""
    found = []
    for name in MAPS:
        means = [mean for run in runs for layer in run["layers"] for mean in layer[name]["mean"]]
        low, high = (sum(out) for out in ([m < BOUNDS[0] for m in means], [m > BOUNDS[1] for m in means]))
        found += [f"{name} collapsed ({low} of {len(means)})"] * (low > 0)
        found += [f"{name} flat ({high} of {len(means)})"] * (high > 0)
    return f"**{'; '.join(found)}**" if found else "within"


def chosen(args) -> dict[str, dict[str, Any]]:
    """The settings of each row, by its name; seeds are repetitions of a row."""
    return {
        f"{model} | {refinement} | {scale} | {length}": {
            "model": model,
            "refinement": refinement,
            "scale": scale,
            "MAX_ITEM_LIST_LENGTH": length,
        }
        for length, scale, model in product(args.lengths, args.scales, args.models)
        for refinement in BACKBONES[model]
        if args.refinements is None or refinement in args.refinements
    }


def measure(args) -> dict[str, dict]:
    """All runs; those in the result file are not made again."""
    file, rows, settings = RESULTS / f"{args.name}.json", chosen(args), settings_of(args, FREE, version=VERSION)
    found = earlier(file, settings, rows)
    for seed, (name, row) in product(args.seeds, rows.items()):
        key = f"{name} | {seed}"
        if key in found:
            continue
        start = time.time()
        model, test_data, losses = train({**row, "seed": seed}, args)
        histories = test_data.dataset[: args.histories][model.ITEM_SEQ]
        scales = [layer.attention.refinement.log_scale.exp().mean().item() for layer in model.encoder.layers]
        layers = entropies(model, histories)
        found[key] = {"layers": layers, "losses": losses, "scales": scales, "seconds": time.time() - start}
        print(f"{key}: {verdict([found[key]])}, {found[key]['seconds']:.0f} s", flush=True)
        save(file, found, settings, rows)
    return found


def table(found: dict[str, dict], args) -> str:
    """Markdown, a line for each row, numbers of the layers one after another, means of heads and seeds."""
    kind = "" if args.rows is None else f", {args.rows} rows an epoch"
    lines = [
        f"# Entropy of refined maps\n\n`python benchmarks/entropy.py {shlex.join(sys.argv[1:])}`\n\nml-100k, "
        f"training={args.training}, {args.epochs} epochs{kind}, seeds {', '.join(map(str, args.seeds))}; entropy over "
        f"log(visible keys), rows of {args.histories} test histories with at least {FEWEST_KEYS} of them; layer by "
        f"layer, means over heads and seeds. In brackets: rows outside [.05, .95]. The verdict counts heads, "
        f"of all layers and seeds, whose mean is outside.\n",
        "| model | refinement | scale | length | A | R | final | c | verdict |",
        "|---" * 9 + "|",
    ]
    for name in chosen(args):
        runs = [found[key] for seed in args.seeds if (key := f"{name} | {seed}") in found]
        if runs:
            scales = ", ".join(f"{statistics.mean(layer):.2f}" for layer in zip(*(run["scales"] for run in runs)))
            cells = [*(cell(runs, part) for part in MAPS), scales, verdict(runs)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(runs: list[dict], part: str) -> str:
    """One map's entropy and share of rows out of bounds, layer by layer."""
    texts = []
    for layers in zip(*(run["layers"] for run in runs)):
        mean, below, above = (
            statistics.mean(value for layer in layers for value in layer[part][name])
            for name in ("mean", "below", "above")
        )
        texts.append(f"{mean:.2f} ({below + above:.0%})")
    return ", ".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument("--refinements", nargs="+", choices=BACKBONES["AWRSTOSA"])
    parser.add_argument("--scales", nargs="+", default=["learned", "sqrt_n"], choices=("learned", "sqrt_n"))
    parser.add_argument("--lengths", nargs="+", type=int, default=[50, 200])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020])
    parser.add_argument("--heads", type=int, help="those of the property file unless given")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rows", type=int, help="rows of an epoch; all of them unless given")
    parser.add_argument("--training", choices=("prefix", "sequence"), default="sequence")
    parser.add_argument("--histories", type=int, default=256, help="test histories whose maps are measured")
    parser.add_argument("--name", default="entropy")
    args = parser.parse_args()
    words, sys.argv = sys.argv, sys.argv[:1]  # RecBole's Config reads the command line
    import recbole_attn  # noqa: F401  (mends RecBole, before anything imports it)

    found = measure(args)
    sys.argv = words
    (RESULTS / f"{args.name}.md").write_text(table(found, args), encoding="utf-8")
    print(table(found, args))


if __name__ == "__main__":
    main()
