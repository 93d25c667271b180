"""Does refined attention reach further than the layer it replaces? A study with a known answer.

    python benchmarks/planted.py
    python benchmarks/planted.py --seeds 5 --steps 4000 --name planted-long

A node has a label; an item is a pair (own label → label of another node), and a history is a random tree of items:
each points to one that stands anywhere before it. Labels are dealt anew for every history, so nothing but the pointers
tells which item is which one's target. The next item repeats the one that is found k hops back from the last item.
A hop means to read the item whose own label is the label that one's item points to. One softmax layer can make one hop,
two can make two. Training data are endless; a run is one model, one k, one seed, and its measure is Recall@1 on
histories that it has not seen. Models on SASRec train with cross-entropy, those on STOSA with their own pairwise loss,
against another item of the history or any item, half and half.

For comparison the table holds what a reader reaches who follows h hops perfectly and then names the likeliest place (by
simulation). It is no bound: a model may also leave out items that it sees others point to. Finished runs are read from
`benchmarks/results/<name>.json`; a Markdown table and a figure are written beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from kept import earlier, save

RESULTS = Path(__file__).parent / "results"
_FREE = {"rows", "seeds", "name"}
ROWS = {
    "softmax, 1 layer": ("AttnSASRec", {"n_layers": 1}),
    "softmax, 2 layers": ("AttnSASRec", {"n_layers": 2}),
    **{
        f"{refinement}, 1 layer": ("AWRSR", {"n_layers": 1, "refinement": refinement})
        for refinement in ("simple", "value", "value_map", "additive", "bahdanau")
    },
    "STOSA, 1 layer": ("STOSA", {"n_layers": 1}),
    "stochastic, 1 layer": ("AWRSTOSA", {"n_layers": 1, "refinement": "stochastic"}),
}
HOPS = (1, 2, 3)
SIZES = {"hidden_size": 32, "inner_size": 32, "n_heads": 2, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}


def trees(rows: int, length: int, generator):
    """Places (rows, length) that each item points to; those on the last one's chain are any `HOPS` earlier ones."""
    import torch

    parent = (torch.rand(rows, length, generator=generator) * torch.arange(length)).long()
    chosen = torch.rand(rows, length - 1, generator=generator).argsort(-1)[:, : len(HOPS)]
    chain = torch.cat([torch.full((rows, 1), length - 1), chosen.sort(descending=True).values], -1)
    return parent.scatter_(1, chain[:, :-1], chain[:, 1:])


def after(parent, hops: int):
    """The place (rows,) that is found so many hops back from the last one."""
    place = parent.new_full((len(parent), 1), parent.size(1) - 1)
    for _ in range(hops):
        place = parent.gather(1, place)
    return place[:, 0]


def histories(parent, labels: int, generator):
    """Item ids (rows, length) of trees: 1 + labels · own + target's, with labels dealt at random."""
    import torch

    rows, length = parent.shape
    dealt = torch.rand(rows, labels, generator=generator).argsort(-1)
    own = dealt[:, :length]
    target = own.gather(1, parent)
    target[:, 0] = dealt[:, length]  # the root points to nothing that is there
    return 1 + labels * own + target


def draw(rows: int, hops: int, args, generator) -> dict:
    """A batch as RecBole would hand it over."""
    import torch

    parent = trees(rows, args.length, generator)
    items, place = histories(parent, args.labels, generator), after(parent, hops)
    elsewhere = (place + torch.randint(1, args.length, (rows,), generator=generator)) % args.length
    anything = torch.randint(1, 1 + args.labels**2, (rows,), generator=generator)
    of_history = torch.rand(rows, generator=generator) < 0.5
    return {
        "item_id_list": items,
        "item_length": torch.full((rows,), args.length),
        "item_id": items.gather(1, place[:, None])[:, 0],
        "neg_item_id": torch.where(of_history, items.gather(1, elsewhere[:, None])[:, 0], anything),
    }


def build(row: str, args):
    from recbole_attn.catalogue import Catalogue
    from recbole_attn.config.settings import load_settings
    from recbole_attn.run import build_model

    name, changes = ROWS[row]
    values = {**SIZES, **changes, "MAX_ITEM_LIST_LENGTH": args.length, "use_gpu": False}
    config = load_settings(name, "ml-100k", config_dict=values).config
    return build_model(config, Catalogue("item_id", [str(i) for i in range(1 + args.labels**2)]))


def train(row: str, hops: int, seed: int, args) -> dict[str, float]:
    """One run: Recall@1, and the seconds it took."""
    import torch

    torch.manual_seed(seed)
    start, generator = time.time(), torch.Generator().manual_seed(1000 + seed)
    model = build(row, args)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, total_steps=args.steps)
    for _ in range(args.steps):
        optimizer.zero_grad()
        model.calculate_loss(draw(args.batch, hops, args, generator)).backward()
        optimizer.step()
        rate.step()
    batch = draw(args.test, hops, args, torch.Generator().manual_seed(1))
    with torch.no_grad():
        hits = model.eval().full_sort_predict(batch).argmax(-1) == batch["item_id"]
    return {"recall@1": hits.double().mean().item(), "seconds": time.time() - start}


def ceiling(known: int, hops: int, length: int) -> float:
    """Recall@1 of a reader who follows `known` hops and then names the likeliest place, by simulation."""
    import torch

    parent = trees(200_000, length, torch.Generator().manual_seed(0))
    seen, answer = after(parent, min(known, hops)), after(parent, hops)
    counts = torch.zeros(length, length).index_put_((seen, answer), torch.ones(()), accumulate=True)
    return (counts.amax(-1).sum() / len(parent)).item()


def run_all(args) -> dict[str, dict[str, float]]:
    """Every run that the result file lacks, written as it comes."""
    file = RESULTS / f"{args.name}.json"
    found = earlier(file, args, _FREE)
    for seed in range(args.seeds):
        for hops in HOPS:
            for row in args.rows:
                key = f"{row} | {hops} | {seed}"
                if key not in found:
                    found[key] = train(row, hops, seed, args)
                    print(key, found[key], flush=True)
                    save(file, found, args, _FREE)
    return found


def of(found: dict, row: str, hops: int) -> list[float]:
    """Recall@1 of all seeds."""
    return [run["recall@1"] for key, run in found.items() if key.startswith(f"{row} | {hops} |")]


def table(found: dict, args) -> str:
    lines = [f"| | {' | '.join(f'{hops} hops' for hops in HOPS)} |", "|---" * (1 + len(HOPS)) + "|"]
    for row in args.rows:
        cells = [of(found, row, hops) for hops in HOPS]
        lines.append(f"| {row} | {' | '.join(spread(cell) for cell in cells)} |")
    for known in range(len(HOPS)):
        cells = [f"{ceiling(known, hops, args.length):.3f}" for hops in HOPS]
        lines.append(f"| *follows {known} hops, then guesses by place* | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.3f} (one seed)"
    return f"{statistics.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def figure(found: dict, args) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for place, row in enumerate(args.rows):
        cells = [of(found, row, hops) for hops in HOPS]
        at = [hops + 0.08 * (place - len(args.rows) / 2) for hops in HOPS]
        axes.bar(at, [statistics.mean(cell) if cell else 0 for cell in cells], 0.075, label=row)
        for x, cell in zip(at, cells):
            axes.plot([x] * len(cell), cell, "k.", markersize=3)
    for hops in HOPS:
        axes.hlines(ceiling(1, hops, args.length), hops - 0.42, hops + 0.42, colors="gray", linestyles="dashed")
    axes.set(xticks=HOPS, xlabel="hops to the answer (dashed: one hop, then a guess by place)", ylabel="Recall@1")
    axes.legend(fontsize=7, ncols=2)
    canvas.savefig(RESULTS / f"{args.name}.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--test", type=int, default=10_000, help="histories of the test")
    parser.add_argument("--length", type=int, default=8, help="items of a history")
    parser.add_argument("--labels", type=int, default=10, help="more than the length")
    parser.add_argument("--learning_rate", type=float, default=0.003)
    parser.add_argument("--name", default="planted")
    args = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
    import recbole_attn  # noqa: F401  (mends RecBole, before anything imports it)

    found = run_all(args)
    figure(found, args)
    about = (
        f"# Hops that must be made\n\n`python benchmarks/planted.py --seeds {args.seeds} --steps {args.steps}`\n\n"
        f"Recall@1 on {args.test} new histories of {args.length} items, mean of the seeds (smallest–largest). "
        f"The last rows are readers who make so many hops and then go by places; a model may know more.\n\n"
    )
    (RESULTS / f"{args.name}.md").write_text(about + table(found, args) + "\n", encoding="utf-8")
    print(table(found, args))


if __name__ == "__main__":
    main()
