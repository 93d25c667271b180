"""The planted study: what its histories ask, and that fewer hops do not answer it."""

import argparse
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import planted
import planted_task
from planted_task import HOPS, Task

TASK = Task(width=3, labels=15)


def dealt(rows: int, task: Task = TASK):
    return planted_task.draw(rows, task, torch.Generator().manual_seed(0))


def followed(items: list[int], hops: int, start: int) -> int | None:
    """The answer to a history, item by item; None where a pointer does not lead back."""
    pairs = [divmod(item - 1, TASK.labels) for item in items]
    place = start
    for _ in range(hops):
        (target,) = (j for j, (own, _) in enumerate(pairs) if own == pairs[place][1])
        if target >= place:
            return None
        place = target
    return TASK.first_answer(hops) + pairs[place][1]


@pytest.mark.parametrize("hops", HOPS)
def test_the_answer_is_what_one_finds_by_following_pointers(hops):
    drawn = dealt(20)
    answers = planted_task.answers(drawn, hops, TASK)
    for items, row in zip(drawn.items.tolist(), answers.tolist()):
        expected = [followed(items, hops, start) or 0 for start in range(TASK.length)]
        assert row == expected and row[-1] > 0


def test_each_item_of_a_block_points_to_another_one_of_the_block_before():
    parent = dealt(50).parent
    for block in range(1, planted_task.BLOCKS):
        place = torch.arange(TASK.width)
        found = parent[:, block * TASK.width + place].sort(-1).values
        assert (found == (block - 1) * TASK.width + place).all()
    assert (parent[:, -1] // TASK.width == planted_task.BLOCKS - 1).all()


def test_no_answer_is_an_item_of_a_history():
    batch = planted_task.training_batch(50, 2, TASK, torch.Generator().manual_seed(0))
    assert batch["item_id_list"].min() >= 1 and batch["item_id_list"].max() <= TASK.items
    counted = batch["item_id"][batch["item_id"] > 0]
    for answers in (counted, batch["neg_item_id"]):
        assert answers.min() > TASK.items and answers.max() < TASK.ids


def test_training_asks_for_so_many_hops_and_for_fewer_with_negatives_of_as_many():
    batch = planted_task.training_batch(90, 3, TASK, torch.Generator().manual_seed(0))
    asked = 1 + (batch["item_id"][:, -1] - TASK.first_answer(1)) // TASK.labels
    assert asked.unique().tolist() == [1, 2, 3]
    assert torch.equal(1 + (batch["neg_item_id"] - TASK.first_answer(1)) // TASK.labels, asked[:, None].expand(-1, 13))
    for row, hops, items in zip(batch["item_id"].tolist(), asked.tolist(), batch["item_id_list"].tolist()):
        assert row == [followed(items, hops, start) or 0 for start in range(TASK.length)]


def test_labels_are_dealt_anew_and_each_answer_is_as_likely_as_another():
    answers = planted_task.answers(dealt(15_000), 2, TASK)[:, -1]
    share = torch.bincount(answers - TASK.first_answer(2), minlength=TASK.labels) / len(answers)
    torch.testing.assert_close(share, torch.full((TASK.labels,), 1 / TASK.labels), atol=0.01, rtol=0)


@pytest.mark.parametrize("hops", HOPS)
def test_the_way_so_far_says_nothing_of_the_place_in_the_next_block(hops):
    """So a reader of fewer hops who goes by places is right once in `width`."""
    parent = dealt(15_000).parent
    known, right = planted_task.back(parent, hops - 1)[:, -1], planted_task.back(parent, hops)[:, -1]
    for place in known.unique():
        _, counts = right[known == place].unique(return_counts=True)
        assert len(counts) == TASK.width
        assert counts.max() / counts.sum() < planted_task.guess(hops - 1, hops, TASK) + 0.04


@pytest.mark.parametrize("hops", [1, 2])
def test_all_items_and_fewer_hops_do_not_help_a_sum_and_enough_hops_do(hops):
    small = Task(width=2, labels=9)
    short = planted_task.linear_reader(hops - 1, hops, small, 0, steps=300)
    assert short < planted_task.guess(hops - 1, hops, small) + 0.04
    assert planted_task.linear_reader(hops, hops, small, 0, steps=300) > 0.98


def test_a_history_that_cannot_be_dealt_is_refused():
    with pytest.raises(SystemExit, match="--labels"):
        planted_task.checked(Task(width=3, labels=12))


def test_a_loss_that_still_falls_has_not_settled():
    falling = [1 - step / 1000 for step in range(500)]
    assert not planted.has_settled(falling)
    assert planted.has_settled(falling + [0.5] * 500)


def test_a_run_says_where_it_ended_and_a_row_that_has_not_settled_is_marked():
    args = argparse.Namespace(
        width=2, labels=9, batch=8, steps=4, every=2, test=50, learning_rate=0.01, rows=["value, 1 layer"]
    )
    run = planted.train({**planted.ROWS["value, 1 layer"], "hidden_size": 8}, 1, 0, args)
    assert run["steps"] == 4 and len(run["losses"]) == len(run["recalls"]) == 2
    found = {f"value, 1 layer | {hops} | 0": {**run, "settled": hops == 1} for hops in HOPS}
    line = next(line for line in planted.table(found, args).splitlines() if line.startswith("| value"))
    settled, *others = line.split("|")[2:-1]
    assert planted.MARK not in settled and all(planted.MARK in cell for cell in others)
