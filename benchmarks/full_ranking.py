"""Ranking all items for many users in chunks: time, memory, and equality with RecBole's path.

    python benchmarks/full_ranking.py --large        a million items, 100,000 users, in a process of its own
    python benchmarks/full_ranking.py --large --model RPG --users 10000        items of 16 codes each
    python benchmarks/full_ranking.py                sizes where both paths fit, with their differences

Both paths go through RecBole's `evaluate` loop, its Evaluator included, on a model of random weights: only its scores
are random, the work is that of a trained one. Histories have one item, so that almost all of the time is ranking.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from types import SimpleNamespace

SIZES = [(1_000, 10_000), (4_096, 10_000), (4_096, 50_000)]
SETTINGS = {"hidden_size": 64, "inner_size": 64, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 2, "state": "ERROR"}


def measure(model_name: str, which: str, users: int, items: int, batch: int, chunk: int | None) -> dict[str, object]:
    """Evaluate once; seconds by the clock and of the processor, the metrics, and peak memory beyond the model's."""
    import torch

    import recbole_attn  # noqa: F401  makes RecBole importable

    # isort: split
    from recbole.data.dataloader import FullSortEvalDataLoader
    from recbole.data.interaction import Interaction
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    from recbole_attn.catalogue import Catalogue
    from recbole_attn.config.settings import load_settings
    from recbole_attn.memory import keep_freed_memory, peak_resident
    from recbole_attn.run import build_model
    from recbole_attn.streaming import StreamingTrainer

    torch.set_num_threads(1)
    keep_freed_memory()
    config = load_settings(
        model_name, "ml-100k", config_dict={**SETTINGS, "use_gpu": False, "item_chunk": chunk}
    ).config
    init_seed(0, True)
    ids = list(map(str, range(items + 1)))
    model = build_model(config, Catalogue("item_id", ids))
    with torch.no_grad():
        next(model.item_embedding.parameters()).normal_(std=0.2)
    histories, targets = torch.randint(1, items + 1, (2, users))

    class Loader(FullSortEvalDataLoader):
        """Histories of one item, a target each."""

        def __init__(self):
            self._dataset = SimpleNamespace(
                item_num=items + 1, get_item_feature=lambda: Interaction({"item_id": torch.arange(items + 1)})
            )

        def __len__(self):
            return -(-users // batch)

        def __iter__(self):
            for start in range(0, users, batch):
                history = histories[start : start + batch]
                rows = Interaction({"item_id_list": history[:, None], "item_length": torch.ones_like(history)})
                yield rows, None, torch.arange(len(rows)), targets[start : start + batch]

    trainer = (StreamingTrainer if which == "chunks" else Trainer)(config, model)
    before, begin, busy = peak_resident() / 2**20, time.perf_counter(), time.process_time()
    metrics = trainer.evaluate(Loader(), load_best_model=False)
    spent = {"seconds": time.perf_counter() - begin, "processor": time.process_time() - busy}
    return {**spent, "peak_mib": peak_resident() / 2**20, "before_mib": before, "metrics": dict(metrics)}


def in_own_process(*arguments: object) -> dict:
    command = [sys.executable, "-W", "ignore", __file__, "--measure", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(model: str, batch: int) -> None:
    print("| users | items | path | seconds | processor s | peak MiB | of it before | metrics |\n" + "|---" * 8 + "|")
    for users, items in SIZES:
        rows = {which: in_own_process(model, which, users, items, batch, 0) for which in ("stock", "chunks")}
        for which, row in rows.items():
            same = "" if which == "stock" else "same" if row["metrics"] == rows["stock"]["metrics"] else "differ"
            _show(users, items, which, row, same)


def _show(users: int, items: int, which: str, row: dict, note: str) -> None:
    numbers = f"{row['seconds']:.2f} | {row['processor']:.2f} | {row['peak_mib']:.0f} | {row['before_mib']:.0f}"
    print(f"| {users:,} | {items:,} | {which} | {numbers} | {note} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="the large run instead of the comparison")
    parser.add_argument("--model", choices=["AttnSASRec", "RPG"], default="AttnSASRec")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=4096, help="eval_batch_size")
    parser.add_argument("--chunk", type=int, default=0, help="item_chunk; 0 for what suits the device")
    parser.add_argument("--measure", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        model, which, *numbers = args.measure
        users, items, batch, chunk = map(int, numbers)
        print(json.dumps(measure(model, which, users, items, batch, chunk or None)))
        return
    print(f"{platform.machine()}, one thread, {args.model}, D 64, eval_batch_size {args.batch}\n")
    if args.large:
        row = in_own_process(args.model, "chunks", args.users, args.items, args.batch, args.chunk)
        print("| users | items | path | seconds | processor s | peak MiB | of it before | |\n" + "|---" * 8 + "|")
        _show(args.users, args.items, "chunks", row, "")
    else:
        compare(args.model, args.batch)


if __name__ == "__main__":
    main()
