"""Scores of all items from their codes, against summing as many bytes in sequence.

    python benchmarks/code_scoring.py --batch 1 2 3 4 8 16 32 256
    python benchmarks/code_scoring.py --without-numba --batch 1 8 16 32 --name code_scoring-without-numba
    python benchmarks/code_scoring.py --items 1000000 --batch 256 --codes 16

Scoring N items for B states first makes a table of K·V·B numbers, whatever N is, and then looks up K·N·B of them. The
yardstick is `torch.sum` over an array of as many float32, 64 MiB of it again and again; what is smaller is summed out
of a cache. All run on one thread, each row of the table in a process of its own; numbers are medians of CPU time over
the repeats, taken in turns; ratios are those of looking up, and of both steps, to summing. Memory is the growth of the
peak resident set, the scores themselves among it. numba looks up where it is installed (`pip install -e ".[lookup]"`).
The table goes into results/code_scoring.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shlex
import statistics
import sys
import time
from pathlib import Path

import torch

from recbole_attn import lookup
from recbole_attn.codes import CodedItems
from recbole_attn.memory import keep_freed_memory, peak_resident

RESULTS = Path(__file__).parent / "results"
BLOCK = 1 << 24  # float32 numbers that are summed in one go


def seconds(task) -> float:
    start = time.process_time()
    task()
    return time.process_time() - start


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
def measure(items: int, codes: int, values: int, batch: int, hidden: int, repeats: int, numba: bool) -> str:
    """One row of the table."""
    if not numba:
        lookup.has_numba = lambda: False
    torch.set_num_threads(1)
    keep_freed_memory()  # as every run has it
    table = torch.randint(values, (items, codes))
    coded = CodedItems(table, n_values=values, hidden_size=hidden, temperature=0.03)
    states = torch.randn(batch, hidden)
    reading = summing(codes * items * batch)
    coded.score(coded.tabulate(states[:1]), 0, items), reading()
    before = peak_resident()
    made = coded.tabulate(states)
    tasks = lambda: coded.tabulate(states), lambda: coded.score(made, 0, items), reading
    found = [[seconds(task) for task in tasks] for _ in range(repeats)]
    making, looking, theirs = map(statistics.median, zip(*found))
    memory = f"{(peak_resident() - before) / 2**20:.0f} | {items * batch * 4 / 2**20:.0f}"
    times = " | ".join(f"{1000 * spent:.2f}" for spent in (making, looking, theirs))
    ratios = f"{looking / theirs:.2f} | {(making + looking) / theirs:.2f}"
    return f"| {items:,} | {codes} | {batch} | {times} | {ratios} | {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", nargs="+", type=int, default=[12102, 100_000, 1_000_000])
    parser.add_argument("--codes", nargs="+", type=int, default=[16, 32])
    parser.add_argument("--values", type=int, default=256)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32, 256])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without-numba", action="store_true", help="as where it is not installed")
    parser.add_argument("--name", default="code_scoring", help="name of the result file")
    args = parser.parse_args()
    sizes = [(items, codes, batch) for items in args.items for codes in args.codes for batch in args.batch]
    rows = [
        (items, codes, args.values, batch, args.hidden, args.repeats, not args.without_numba)
        for items, codes, batch in sizes
    ]
    heads = "items | codes | states | table, ms | looking up, ms | summing, ms | ratio | of both | MiB | of it scores"
    lines = [f"| {heads} |", "|---" * len(heads.split("|")) + "|"]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        lines += pool.starmap(measure, rows, chunksize=1)
        pool.close()  # let the last process end by itself: Ray, if it is there, makes noise when terminated
        pool.join()
    print(*lines, sep="\n")
    command = shlex.join(["python", "benchmarks/code_scoring.py", *sys.argv[1:]])
    (RESULTS / f"{args.name}.md").write_text("\n".join([f"`{command}`", "", *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
