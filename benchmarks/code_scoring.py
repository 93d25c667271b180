"""Scores of all items from their codes, against summing as many bytes in sequence.

    python benchmarks/code_scoring.py
    python benchmarks/code_scoring.py --items 1000000 --batch 256 --codes 16

Scoring N items for B states looks up K·N·B numbers. The yardstick is `torch.sum` over an array of that many float32,
64 MiB of it again and again, which is more than a cache holds. Both run on one thread; numbers are medians of CPU time
over the repeats, taken in turns. Memory is the growth of the peak resident set beyond the scores themselves.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import statistics
import time

import torch

BLOCK = 1 << 24  # float32 numbers that are summed in one go


def seconds(task) -> float:
    start = time.process_time()
    task()
    return time.process_time() - start


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def summing(numbers: int):
    """A task that sums `numbers` float32 in sequence."""
    block = torch.ones(min(numbers, BLOCK))
    rounds, rest = divmod(numbers, len(block))

    def task():
        for _ in range(rounds):
            block.sum()
        block[:rest].sum()

    return task


@torch.no_grad()
def measure(items: int, codes: int, values: int, batch: int, hidden: int, repeats: int) -> dict[str, float]:
    coded = importlib.import_module("recbole_attn.codes").CodedItems(
        torch.randint(values, (items, codes)), n_values=values, hidden_size=hidden, temperature=0.03
    )
    states = torch.randn(batch, hidden)
    scoring, reading = (lambda: coded.score(coded.tabulate(states), 0, items)), summing(codes * items * batch)
    coded.score(coded.tabulate(states[:1]), 0, items), reading()
    before = peak_mib()
    found = [(seconds(scoring), seconds(reading)) for _ in range(repeats)]
    ours, theirs = map(statistics.median, zip(*found))
    beyond = peak_mib() - before - items * batch * 4 / 2**20
    return {"scoring": ours, "summing": theirs, "ratio": ours / theirs, "mib": beyond}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", nargs="+", type=int, default=[12102, 100_000, 1_000_000])
    parser.add_argument("--codes", nargs="+", type=int, default=[16, 32])
    parser.add_argument("--values", type=int, default=256)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32, 256])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    importlib.import_module("recbole_attn.memory").keep_freed_memory()  # as every run has it
    print("| N | K | B | scoring s | summing s | ratio | MiB beyond the scores |\n|---|---|---|---|---|---|---|")
    for items in args.items:
        for codes in args.codes:
            for batch in args.batch:
                row = measure(items, codes, args.values, batch, args.hidden, args.repeats)
                cells = f"{row['scoring']:.3f} | {row['summing']:.3f} | {row['ratio']:.2f} | {row['mib']:.0f}"
                print(f"| {items} | {codes} | {batch} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
