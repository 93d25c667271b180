"""Do refined maps collapse or explode? Their normalised entropy after training on ml-100k.

    python benchmarks/entropy.py
    python benchmarks/entropy.py --epochs 1 --rows 20000 --refinements value --scales learned

For each refinement, scale and backbone: a model with the settings of its property file is trained, and for every map
of every layer the entropy of a row, over the logarithm of how many keys it sees, is averaged over the rows of the test
histories that see at least five. 0 is a row that reads one item, 1 a row that reads all alike. The first map, before
refinement, stands beside it, and so does the share of rows outside [.05, .95]. Writes
`benchmarks/results/<name>.md`; finished rows are kept in the `.json` beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from kept import earlier, save

RESULTS = Path(__file__).parent / "results"
_FREE = {"models", "refinements", "scales", "name"}
FEWEST_KEYS = 5
BOUNDS = (0.05, 0.95)
ON_SASREC = ("simple", "value", "value_map", "additive", "bahdanau")
BACKBONES = {"AWRSR": ON_SASREC, "AWRSTOSA": (*ON_SASREC, "stochastic")}


def train(model_name: str, refinement: str, scale: str, args):
    """A trained model, its data loader for the test, and the loss of each epoch."""
    import torch
    from recbole.utils import init_seed

    from recbole_attn.config.settings import load_settings
    from recbole_attn.data import load_dataset, split
    from recbole_attn.run import begin, build_model

    values = {"refinement": refinement, "scale": scale, "training": args.training, "show_progress": False}
    values.update(MAX_ITEM_LIST_LENGTH=args.length, state="ERROR")
    config = load_settings(model_name, "ml-100k", config_dict=values).config
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


def entropies(model, test_data) -> list[dict[str, float]]:
    """For each layer: mean entropy of the final and of the first map, and the share of final rows out of bounds."""
    import torch

    taken: dict[int, list] = {}

    def note(depth):
        def hook(module, inputs, output):
            taken.setdefault(depth, []).append((of_rows(output, inputs[1]), of_rows(inputs[0], inputs[1])))

        return hook

    layers = model.encoder.layers
    handles = [layer.attention.refinement.register_forward_hook(note(i)) for i, layer in enumerate(layers)]
    with torch.no_grad():
        for batch, *_ in test_data:
            item_seq = batch[model.ITEM_SEQ]
            model.encode(item_seq, None)
    for handle in handles:
        handle.remove()
    return [summary(*(torch.cat(part) for part in zip(*taken[depth]))) for depth in range(len(layers))]


def summary(final, first) -> dict[str, float]:
    outside = (final < BOUNDS[0]) | (final > BOUNDS[1])
    return {"final": final.mean().item(), "first": first.mean().item(), "outside": outside.double().mean().item()}


def of_rows(weights, mask):
    """Entropy over log(visible keys) of the rows of (B, H, L, L) that are items and see enough keys, (M,)."""
    keys = mask.sum(-1)  # (B, 1, L)
    items = mask.diagonal(dim1=-2, dim2=-1)
    entropy = -weights.xlogy(weights).sum(-1) / keys.clamp_min(2).log()
    return entropy[((keys >= FEWEST_KEYS) & items).expand_as(entropy)]


def measure(args) -> dict[str, dict]:
    """All rows; those in the result file are not measured again."""
    file = RESULTS / f"{args.name}.json"
    found = earlier(file, args, _FREE)
    for scale in args.scales:
        for name, refinements in BACKBONES.items():
            for refinement in refinements:
                key = f"{name} | {refinement} | {scale}"
                if name not in args.models or refinement not in args.refinements or key in found:
                    continue
                start = time.time()
                model, test_data, losses = train(name, refinement, scale, args)
                layers = entropies(model, test_data)
                scales = [layer.attention.refinement.log_scale.exp().mean().item() for layer in model.encoder.layers]
                found[key] = {"layers": layers, "losses": losses, "scales": scales, "seconds": time.time() - start}
                print(key, found[key], flush=True)
                save(file, found, args, _FREE)
    return found


def table(found: dict[str, dict], args) -> str:
    """Markdown, a line for each row, numbers of the layers one after another."""
    kind = "all rows" if args.rows is None else f"{args.rows} rows an epoch"
    lines = [
        f"# Entropy of refined maps\n\n`python benchmarks/entropy.py {' '.join(sys.argv[1:])}`\n\nml-100k, length "
        f"{args.length}, training={args.training}, {args.epochs} epochs, {kind}; entropy over log(visible keys), rows "
        f"with at least {FEWEST_KEYS} of them; layer by layer.\n",
        "| model | refinement | scale | refined map | first map | rows outside [.05, .95] | learned c |",
        "|---" * 7 + "|",
    ]
    for key, row in found.items():
        parts = [[f"{layer[part]:.2f}" for layer in row["layers"]] for part in ("final", "first", "outside")]
        parts.append([f"{scale:.2f}" for scale in row["scales"]])
        lines.append(f"| {key} | {' | '.join(', '.join(part) for part in parts)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument("--refinements", nargs="+", default=[*ON_SASREC, "stochastic"])
    parser.add_argument("--scales", nargs="+", default=["learned", "sqrt_n"])
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rows", type=int, help="rows of an epoch; all of them unless given")
    parser.add_argument("--training", choices=("prefix", "sequence"), default="prefix")
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
