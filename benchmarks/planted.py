"""Does refined attention reach further than the layer it replaces? A study with a known answer.

    python benchmarks/planted.py
    python benchmarks/planted.py --rows "value, 1 layer" "softmax, 2 layers" --seeds 5 --steps 9000 --name planted-long

`planted_task.py` says what a history is, and what fewer hops leave open. A hop reads the item whose own label is the
label that one's item points to. One softmax layer's attention makes one hop. Two make three: the first lets every item
read the next, so that the second one's hop lands two further. Value refinement, R·A, is built to make two in one layer.
In the others R_ij depends on where item j points, so that its size may tell of the second hop. What a feed-forward part
finds out beyond its layer's attention is not excluded: the rows of one softmax layer, narrow and wide, show how much.

Training data are endless, each item of a history a target; a run is one model, one k, one seed. It is asked for 1 … k
hops, and its measure is how often the right answer to k is named first, of the answers to k, after histories that it
has not seen. A run ends when it is right in 99 % of other new histories, or after `--steps`. What then has not settled,
because the loss still fell by more than 1 % from the last but one fifth of the steps to the last, or because not even
the right block is found, is marked †: it may only need more steps. One that has settled has stopped learning, which is
not a proof that its layer cannot do it.

Models on SASRec train with cross-entropy, those on STOSA with their own pairwise loss. The last rows of the table are
readers who make so many hops without fault: by count, and trained on all items of the history beside. Finished runs are
read from `benchmarks/results/<name>.json`; a Markdown table and a figure are written beside it.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from kept import earlier, save, settings_of

RESULTS = Path(__file__).parent / "results"
FREE = {"rows", "seeds", "name"}
SMALL = {"n_layers": 1, "hidden_size": 32, "inner_size": 32, "n_heads": 2}
STILL = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}


def row(model: str, **changes: Any) -> dict[str, Any]:
    """A model, and all its settings that are not those of its property file."""
    return {"model": model, **SMALL, **STILL, **changes}


ROWS = {
    "softmax, 1 layer": row("AttnSASRec"),
    "softmax, 1 wide layer": row("AttnSASRec", hidden_size=64, inner_size=256, n_heads=4),
    "softmax, 2 layers": row("AttnSASRec", n_layers=2),
    "simple, 1 layer": row("AWRSR", refinement="simple"),
    "value, 1 layer": row("AWRSR", refinement="value"),
    "value_map, 1 layer": row("AWRSR", refinement="value_map"),
    "additive, 1 layer": row("AWRSR", refinement="additive"),
    "additive, learned mix, 1 layer": row("AWRSR", refinement="additive", mix="learned"),
    "bahdanau, 1 layer": row("AWRSR", refinement="bahdanau"),
    "STOSA, 1 layer": row("STOSA"),
    "stochastic, 1 layer": row("AWRSTOSA", refinement="stochastic"),
}
SOLVED, SETTLED = 0.99, 0.01
NEAR_GUESS = 0.8  # of one in `width`; below it not even the right block is found
MARK = "†"


def build(settings: dict[str, Any], task):
    from recbole_attn.catalogue import Catalogue
    from recbole_attn.config.settings import load_settings
    from recbole_attn.run import build_model

    values = {**settings, "MAX_ITEM_LIST_LENGTH": task.length, "use_gpu": False}
    config = load_settings(values.pop("model"), "ml-100k", config_dict=values).config
    return build_model(config, Catalogue("item_id", [str(i) for i in range(task.ids)]))


def train(settings: dict[str, Any], hops: int, seed: int, args) -> dict[str, Any]:
    """One run: Recall@1, whether it has settled, and how it came there."""
    import torch
    from planted_task import Task, test_batch, training_batch

    start, task, generator = time.time(), Task(args.width, args.labels), torch.Generator().manual_seed(1000 + seed)
    torch.manual_seed(seed)
    model = build(settings, task)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 100))
    watched, losses, recalls = test_batch(1000, hops, task, torch.Generator().manual_seed(2)), [], []
    for step in range(1, args.steps + 1):
        optimizer.zero_grad()
        loss = model.calculate_loss(training_batch(args.batch, hops, task, generator))
        loss.backward()
        optimizer.step()
        rate.step()
        losses.append(loss.item())
        if step % args.every == 0:
            recalls.append(recall(model, watched, hops, task))
            if recalls[-1] >= SOLVED:
                break
    return {
        "recall@1": recall(model, test_batch(args.test, hops, task, torch.Generator().manual_seed(1)), hops, task),
        "settled": recalls[-1] >= SOLVED or (recalls[-1] > NEAR_GUESS / task.width and has_settled(losses)),
        "steps": len(losses),
        "loss": statistics.mean(losses[-args.every :]),
        "losses": [round(statistics.mean(losses[i : i + args.every]), 4) for i in range(0, len(losses), args.every)],
        "recalls": recalls,
        "seconds": time.time() - start,
    }


def has_settled(losses: list[float]) -> bool:
    """Whether the mean loss of the last fifth is no more than a little below that of the fifth before."""
    fifth = max(1, len(losses) // 5)
    before, last = (statistics.mean(part) for part in (losses[-2 * fifth : -fifth] or losses, losses[-fifth:]))
    return last > (1 - SETTLED) * before


def recall(model, batch: dict, hops: int, task) -> float:
    """How often the right answer is the first of all answers to so many hops."""
    import torch

    first = task.first_answer(hops)
    model.eval()
    with torch.no_grad():
        named = first + model.full_sort_predict(batch)[:, first : first + task.labels].argmax(-1)
    model.train()
    return (named == batch["item_id"]).double().mean().item()


def reader_name(known: int) -> str:
    return f"reader of {known} hops and of all items"


def run_all(args) -> dict[str, dict[str, Any]]:
    """Every run that the result file lacks, written as it comes."""
    from planted_task import HOPS, VERSION, Task, checked, linear_reader

    task, file = checked(Task(args.width, args.labels)), RESULTS / f"{args.name}.json"
    settings, rows = settings_of(args, FREE, task=VERSION), {name: ROWS[name] for name in args.rows}
    found = earlier(file, settings, rows)

    def keep(name: str, hops: int, seed: int, make) -> None:
        key = f"{name} | {hops} | {seed}"
        if key not in found:
            found[key] = make()
            print(key, {name: found[key][name] for name in found[key] if name not in ("losses", "recalls")}, flush=True)
            save(file, found, settings, rows)

    for hops in HOPS:
        for known in range(hops):
            keep(reader_name(known), hops, 0, lambda: {"recall@1": linear_reader(known, hops, task, 0)})  # noqa: B023
    for seed in range(args.seeds):
        for hops in HOPS:
            for name in args.rows:
                keep(name, hops, seed, lambda: train(ROWS[name], hops, seed, args))  # noqa: B023
    return found


def runs_of(found: dict, name: str, hops: int) -> list[dict[str, Any]]:
    """A row's runs, of all seeds."""
    return [run for key, run in found.items() if key.startswith(f"{name} | {hops} |")]


def table(found: dict, args) -> str:
    from planted_task import HOPS, Task, guess

    task = Task(args.width, args.labels)
    lines = [f"| | {' | '.join(f'k = {hops}' for hops in HOPS)} |", "|---" * (1 + len(HOPS)) + "|"]
    for name in args.rows:
        lines.append(f"| {name} | {' | '.join(cell(runs_of(found, name, hops)) for hops in HOPS)} |")
    for known in range(len(HOPS)):
        counted = [f"{guess(known, hops, task):.3f}" for hops in HOPS]
        lines.append(f"| *{known} hops, then one of the answers left* | {' | '.join(counted)} |")
        read = [runs_of(found, reader_name(known), hops) for hops in HOPS]
        trained = [f"{runs[0]['recall@1']:.3f}" if runs else "–" for runs in read]
        lines.append(f"| *{known} hops and the sum of all items, trained* | {' | '.join(trained)} |")
    return "\n".join(lines)


def cell(runs: list[dict[str, Any]]) -> str:
    """Recall@1, its spread, and what it took; marked where a run had not settled."""
    if not runs:
        return "–"
    values = [run["recall@1"] for run in runs]
    spread = "one seed" if len(runs) == 1 else f"{min(values):.3f}–{max(values):.3f}"
    loss, steps = (statistics.mean(run[name] for run in runs) for name in ("loss", "steps"))
    mark = "" if all(run["settled"] for run in runs) else f" {MARK}"
    return f"{statistics.mean(values):.3f} ({spread}){mark}; loss {loss:.2f}, {steps:.0f} steps"


def figure(found: dict, args) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from planted_task import HOPS

    canvas, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    wide = 0.84 / len(args.rows)
    for place, name in enumerate(args.rows):
        for hops in HOPS:
            runs, x = runs_of(found, name, hops), hops + wide * (place - (len(args.rows) - 1) / 2)
            values, settled = [run["recall@1"] for run in runs], all(run["settled"] for run in runs)
            style = {"color": pyplot.cm.tab20(place), "hatch": None if settled else "////", "edgecolor": "white"}
            axes.bar(
                x, statistics.mean(values) if values else 0, wide, label=name if hops == HOPS[0] else None, **style
            )
            axes.plot([x] * len(values), values, "k.", markersize=3)
    axes.axhline(1 / args.width, color="gray", linestyle="dashed")
    about = "hops to the answer (dashed: fewer hops and a guess; hatched: a run had not settled)"
    axes.set(xticks=HOPS, xlabel=about, ylabel="Recall@1", ylim=(0, 1.02))
    canvas.legend(fontsize=7, ncols=4, loc="outside upper center")
    canvas.savefig(RESULTS / f"{args.name}.svg", metadata={"Date": None})
    pyplot.close(canvas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4000, help="most steps of a run")
    parser.add_argument("--every", type=int, default=250, help="steps from one look at new histories to the next")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--test", type=int, default=10_000, help="histories of the test")
    parser.add_argument("--width", type=int, default=3, help="items of a block; a guess is right once in so many")
    parser.add_argument("--labels", type=int, default=13, help="at least the length, 4 · width + 1")
    parser.add_argument("--learning_rate", type=float, default=0.005)
    parser.add_argument("--name", default="planted")
    args = parser.parse_args()
    if args.steps < args.every:
        parser.error("--steps must be at least --every")
    words, sys.argv = sys.argv, sys.argv[:1]  # RecBole's Config reads the command line
    import recbole_attn  # noqa: F401  (mends RecBole, before anything imports it)

    found = run_all(args)
    figure(found, args)
    about = (
        f"# Hops that must be made\n\n`python benchmarks/planted.py {shlex.join(words[1:])}`\n\n"
        f"Recall@1 on {args.test} new histories, mean of {args.seeds} seeds (smallest–largest), with the mean training "
        f"loss and number of steps at the end. {MARK}: a run had not settled after {args.steps} steps. The last rows "
        f"are readers who make so many hops without fault.\n\n"
    )
    (RESULTS / f"{args.name}.md").write_text(about + table(found, args) + "\n", encoding="utf-8")
    print(table(found, args))


if __name__ == "__main__":
    main()
