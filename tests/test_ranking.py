"""Ranking in tiles is ranking at once: the best items, the place of a target, and nothing of B × N in memory."""

import pytest
import torch

from recbole_attn.ranking import Scores


def problem(users=70, n_items=1000, dtype=torch.float64, seed=0, levels=None):
    """Scores in a matrix; with `levels`, so few values that most are tied."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(users, n_items, generator=generator, dtype=dtype)
    return matrix if levels is None else (matrix * levels).round()


def lazily(matrix, chunk, hidden=None):
    def score(rows, first, last):
        assert last - first <= (chunk or 4096)
        return matrix[rows, first:last].clone()

    return Scores(score, torch.arange(len(matrix)), matrix.size(1), chunk, hidden)


CHUNKS = pytest.mark.parametrize("chunk", [None, 1, 7, 64, 128, 999, 1000, 5000])


@CHUNKS
@pytest.mark.parametrize("k", [1, 10, 100])
def test_the_best_items_are_those_of_the_whole_matrix(chunk, k):
    matrix = problem()
    best = lazily(matrix, chunk).top_k(k)
    expected = matrix[:, 1:].topk(k)
    assert torch.equal(best.scores, expected.values)
    assert torch.equal(best.items, expected.indices + 1)


@CHUNKS
def test_with_ties_the_scores_are_the_best_and_each_item_has_its_own(chunk):
    matrix = problem(levels=2)
    best = lazily(matrix, chunk).top_k(20)
    assert torch.equal(best.scores, matrix[:, 1:].topk(20).values)
    assert torch.equal(matrix.gather(1, best.items), best.scores)
    assert all(len(set(items)) == 20 for items in best.items.tolist())


@CHUNKS
def test_hidden_items_are_not_ranked(chunk):
    matrix = problem(users=9, n_items=130)
    hidden = matrix > 1
    best = lazily(matrix, chunk, hidden.nonzero(as_tuple=True)).top_k(5)
    matrix[hidden] = -torch.inf
    assert torch.equal(best.items, matrix[:, 1:].topk(5).indices + 1)


def test_where_fewer_items_may_rank_the_list_ends_in_padding():
    matrix = problem(users=2, n_items=6)
    hidden = (torch.tensor([0, 0, 0]), torch.tensor([1, 2, 3]))
    best = lazily(matrix, 2, hidden).top_k(5)
    assert best.items[0, 2:].tolist() == [0, 0, 0]
    assert (best.scores[0, 2:] == -torch.inf).all()
    assert (best.items[1] > 0).all()


@CHUNKS
@pytest.mark.parametrize("levels", [None, 2])
def test_a_score_is_compared_with_every_item_but_the_padding(chunk, levels):
    matrix = problem(users=5, levels=levels)
    items = torch.tensor([1, 63, 64, 500, 999])
    scores = lazily(matrix, chunk)
    found = scores.compare(scores.of(items))
    for row, item in enumerate(items.tolist()):
        others = matrix[row, 1:].tolist()
        assert found.higher[row] == sum(other > matrix[row, item] for other in others)
        assert found.equal[row] == sum(other == matrix[row, item] for other in others)


def test_a_matrix_that_is_held_is_ranked_alike():
    matrix = problem()
    ours, held = lazily(matrix, 7), Scores.of_matrix(matrix.clone())
    assert torch.equal(ours.top_k(10).items, held.top_k(10).items)
    assert len(held) == 70


def test_no_tile_holds_the_scores_of_all_users_for_all_items():
    sizes = []

    def score(rows, first, last):
        sizes.append(len(rows) * (last - first))
        return rows @ torch.ones(1, last - first)

    Scores(score, torch.randn(3000, 1), 20_000, None).top_k(3)
    assert max(sizes) <= 1 << 20
    assert sum(sizes) == 3000 * 20_000


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_below_one_is_refused(chunk):
    with pytest.raises(ValueError, match=f"item_chunk must be at least 1, not {chunk}"):
        Scores(lambda *_: None, torch.zeros(1), 5, chunk)
