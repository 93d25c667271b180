"""Histories whose answer lies some pointers away, and what readers of a known kind find in them.

An item is a pair (own label → label of another item). A history has a last item and, before it, blocks of `width`
items. The last item points to one of the block before it, and the items of a block to those of the block before that,
each to another one; those of the earliest block point to the latest. Labels and pointers are dealt anew for every
history, so an item alone says nothing. The answer k hops back from an item is the *target* of the one that is found
there, and it has an id of its own, for each k, that stands in no history: to know where the item must be is not enough,
it must be read. (Were the answer the item itself, a tied output could add "its own label is x" to "it is in the
history", and so make the last hop without attention.)

A reader who has seen only the items on the way of less than k hops has `width` answers left, all alike by symmetry: one
in `width` is right. `linear_reader` measures whether it helps to add up all items of the history beside. A reader who
looks the way up in them, in no linear manner, is not bound by this.

Training asks for k hops or fewer, and does not say for how many: who learns to follow one pointer has learned what two
are made of.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

HOPS = (1, 2, 3)
BLOCKS = len(HOPS) + 1  # so that the answer to most hops is an item's label too
VERSION = "blocks, answers of their own for each k, fewer hops asked too"  # runs of another task are not mixed in


class Task(NamedTuple):
    """Sizes: items of a block, and labels.

    Attributes:
        length: items of a history.
        items: items have the ids 1 … this.
        ids: items, answers and padding.
    """

    width: int
    labels: int

    @property
    def length(self) -> int:
        return BLOCKS * self.width + 1

    @property
    def items(self) -> int:
        return self.labels**2

    @property
    def ids(self) -> int:
        return 1 + self.items + len(HOPS) * self.labels

    def first_answer(self, hops: int) -> int:
        """The id of the first of the answers to so many hops."""
        return 1 + self.items + (hops - 1) * self.labels


class Drawn(NamedTuple):
    """Items (rows, length), and the place (rows, length) that each points to."""

    items: Tensor
    parent: Tensor


def checked(task: Task) -> Task:
    """The task.

    Raises:
        SystemExit: it cannot be dealt, or asks nothing.
    """
    if task.width < 2 or task.labels < task.length:
        raise SystemExit(f"--width must be at least 2 and --labels at least 4 · width + 1, not {tuple(task)}")
    return task


def draw(rows: int, task: Task, generator: torch.Generator) -> Drawn:
    into = torch.rand(rows, BLOCKS, task.width, generator=generator).argsort(-1)
    # Where the block begins that each block, the earliest first, points to.
    begin = torch.arange(-1, BLOCKS - 1) % BLOCKS * task.width
    last = torch.randint((BLOCKS - 1) * task.width, BLOCKS * task.width, (rows, 1), generator=generator)
    parent = torch.cat([(into + begin[:, None]).flatten(1), last], 1)
    own = torch.rand(rows, task.labels, generator=generator).argsort(-1)[:, : task.length]
    return Drawn(1 + task.labels * own + own.gather(1, parent), parent)


def answers(drawn: Drawn, hops: int, task: Task) -> Tensor:
    """The answer (rows, length) so many hops back from each item; 0 where the way would leave the earliest block."""
    found = answer_of(drawn.items.gather(1, back(drawn.parent, hops)), hops, task)
    return found.masked_fill(torch.arange(task.length) < hops * task.width, 0)


def back(parent: Tensor, hops: int) -> Tensor:
    """The place (rows, length) that one comes to from each item."""
    place = torch.arange(parent.size(1)).expand_as(parent)
    for _ in range(hops):
        place = parent.gather(1, place)
    return place


def answer_of(items: Tensor, hops: int, task: Task) -> Tensor:
    """The ids of the answers, to so many hops, that items point to."""
    return task.first_answer(hops) + (items - 1) % task.labels


def training_batch(rows: int, hops: int, task: Task, generator: torch.Generator) -> dict[str, Tensor]:
    """Whole sequences as RecBole would hand them over, each one asked for as many hops as this or for fewer.

    Negatives are answers to as many hops, for an item of the history or for any.
    """
    drawn = draw(rows, task, generator)
    elsewhere = torch.randint(task.length, drawn.items.shape, generator=generator)
    other = drawn.items.gather(1, elsewhere)
    anything = torch.randint(1, 1 + task.items, drawn.items.shape, generator=generator)
    negative = torch.where(torch.rand(drawn.items.shape, generator=generator) < 0.5, other, anything)
    asked = torch.randint(1, hops + 1, (rows, 1), generator=generator)
    target, avoided = torch.zeros_like(negative), torch.zeros_like(negative)
    for few in range(1, hops + 1):
        target = torch.where(asked == few, answers(drawn, few, task), target)
        avoided = torch.where(asked == few, answer_of(negative, few, task), avoided)
    length = torch.full((rows,), task.length)
    return {"item_id_list": drawn.items, "item_length": length, "item_id": target, "neg_item_id": avoided}


def test_batch(rows: int, hops: int, task: Task, generator: torch.Generator) -> dict[str, Tensor]:
    """Histories, and the answer (rows,) after the last item of each."""
    drawn = draw(rows, task, generator)
    length = torch.full((rows,), task.length)
    return {"item_id_list": drawn.items, "item_length": length, "item_id": answers(drawn, hops, task)[:, -1]}


def guess(known: int, hops: int, task: Task) -> float:
    """How often a reader is right who makes `known` hops and then names any answer of the right block."""
    return 1.0 if known >= hops else 1 / task.width


def seen(drawn: Drawn, known: int, task: Task) -> Tensor:
    """What a reader of so many hops weighs (rows, M): every item with its block, and each item that it came to.

    The ids of one kind do not meet those of another, so each (kind, item) can have weights of its own.
    """
    block = torch.arange(task.length).div(task.width, rounding_mode="floor")
    reached = [drawn.items.gather(1, back(drawn.parent, hops)[:, -1:]) for hops in range(1, known + 1)]
    kind = torch.cat([block, BLOCKS + torch.arange(1, known + 1)])
    return kind * task.items + torch.cat([drawn.items, *reached], 1) - 1


def linear_reader(known: int, hops: int, task: Task, seed: int, *, steps: int = 1500, batch: int = 512) -> float:
    """How often a trained reader is right who adds up all that `seen` holds to a score of each answer."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(2000 + seed)
    reader = nn.EmbeddingBag((BLOCKS + 1 + known) * task.items, task.labels, mode="sum")
    nn.init.zeros_(reader.weight)
    optimizer = torch.optim.Adam(reader.parameters(), lr=0.02)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)

    def ask(rows: int) -> tuple[Tensor, Tensor]:
        drawn = draw(rows, task, generator)
        return reader(seen(drawn, known, task)), answers(drawn, hops, task)[:, -1] - task.first_answer(hops)

    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(*ask(batch)).backward()
        optimizer.step()
        rate.step()
    with torch.no_grad():
        scores, right = ask(10_000)
    return (scores.argmax(-1) == right).double().mean().item()
