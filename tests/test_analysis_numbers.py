"""Noise, ranks, groups and intervals, against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse, stats
from test_analysis_maps import CASES, cases_of, model_of
from test_models import N_ITEMS

from recbole_attn.analysis.context import steps_to_related
from recbole_attn.analysis.estimates import estimate
from recbole_attn.analysis.faithfulness import erasures
from recbole_attn.analysis.groups import group, sides
from recbole_attn.analysis.inside import interaction
from recbole_attn.analysis.maps import user_maps
from recbole_attn.analysis.noise import KINDS, disturb, erase
from recbole_attn.analysis.robustness import robustness
from recbole_attn.analysis.scores import ndcg, ranks

LONG = cases_of(*[[1 + (start + step) % 39 for step in range(length)] for start, length in enumerate((10, 10, 4, 1))],
                width=10)  # fmt: skip


def lists(cases):
    return [row[row != 0].tolist() for row in cases.items]


@pytest.mark.parametrize("kind", KINDS)
def test_no_noise_changes_nothing_and_a_seed_draws_the_same_noise_twice(kind):
    assert lists(disturb(LONG, kind, 0.0, N_ITEMS, seed=1)) == lists(LONG)
    first, second, other = (lists(disturb(LONG, kind, 0.5, N_ITEMS, seed=seed)) for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize("kind", KINDS)
def test_noise_leaves_histories_whole(kind):
    noisy = disturb(LONG, kind, 0.5, N_ITEMS, seed=3)
    assert noisy.items.shape == LONG.items.shape and (noisy.length >= 1).all()
    position = torch.arange(10)
    assert ((noisy.items != 0) == (position < noisy.length[:, None])).all()
    assert noisy.items.max() < N_ITEMS


def test_each_kind_of_noise_does_what_it_says_to_the_asked_share():
    before = lists(LONG)
    replaced = lists(disturb(LONG, "replace", 0.3, N_ITEMS, seed=0))
    assert [sum(a != b for a, b in zip(*pair)) for pair in zip(before, replaced)][:2] == [3, 3]
    dropped = lists(disturb(LONG, "drop", 0.5, N_ITEMS, seed=0))
    assert [len(row) for row in dropped] == [5, 5, 2, 1]
    for kept, row in zip(dropped, before):
        assert [item for item in row if item in kept] == kept
    swapped = lists(disturb(LONG, "swap", 0.4, N_ITEMS, seed=0))
    assert [sum(a != b for a, b in zip(*pair)) for pair in zip(before, swapped)] == [4, 4, 2, 0]
    assert [sorted(row) for row in swapped] == [sorted(row) for row in before]
    inserted = lists(disturb(LONG, "insert", 0.5, N_ITEMS, seed=0))
    assert [len(row) for row in inserted] == [10, 10, 6, 1]
    rest = iter(inserted[2])
    assert all(item in rest for item in before[2])  # in their order


def test_inserting_pushes_the_oldest_items_out():
    kept = [item for item in lists(disturb(LONG, "insert", 0.5, N_ITEMS, seed=0))[0] if item in lists(LONG)[0]]
    newest = lists(LONG)[0][-len(kept) :]
    assert len(kept) >= 5 and sum(a == b for a, b in zip(kept[::-1], newest[::-1])) >= 4


def test_noise_can_spare_the_last_item():
    for seed in range(5):
        noisy = disturb(LONG, "replace", 1.0, N_ITEMS, seed, spare_last=True)
        assert [row[-1] for row in lists(noisy)] == [row[-1] for row in lists(LONG)]


@pytest.mark.parametrize(("kind", "share", "message"), [("shuffle", 0.1, "kind"), ("drop", 1.5, "share")])
def test_noise_that_does_not_exist_is_refused(kind, share, message):
    with pytest.raises(ValueError, match=message):
        disturb(LONG, kind, share, N_ITEMS, seed=0)


def test_an_erased_item_is_gone_and_the_others_keep_their_places():
    erased = erase(CASES, torch.tensor([2, 0, 0, 3]))
    assert erased.items[0].tolist() == [1, 2, 0, 4, 5, 6, 7] and erased.items[3].tolist() == [2, 4, 6, 0, 0, 0, 0]
    assert torch.equal(erased.length, CASES.length)


@pytest.mark.parametrize(("name", "key"), [("AttnSASRec", "weights"), ("ACTSR", "plain"), ("AWRSR", "A"),
                                           ("FocusedSASRec", "A1"), ("AttnBERT4Rec", "weights")])  # fmt: skip
def test_what_is_erased_changes_a_first_map_by_its_own_column_alone(name, key):
    """The others have the weights they had, over their sum: their embeddings, positions among them, did not move."""
    model, place = model_of(name), 2
    history = CASES.take(np.array([0]))
    whole, holed = (user_maps(model, cases, [""] * N_ITEMS, [""] * N_ITEMS)[0].layers[0][key][:, place + 1 :]
                    for cases in (history, erase(history, torch.tensor([place]))))  # fmt: skip
    rest = np.delete(whole, place, -1)
    assert (holed[..., place] == 0).all()
    np.testing.assert_allclose(np.delete(holed, place, -1), rest / rest.sum(-1, keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["AttnSASRec", "ACTSR", "AWRSR", "FocusedSASRec", "STOSA", "AttnBERT4Rec"])
def test_nothing_of_an_erased_item_reaches_the_scores(name):
    """Whatever stands in the hole, and whatever a model makes of padding."""
    model, history = model_of(name), erase(CASES.take(np.array([0])), torch.tensor([2]))
    found = [model.full_sort_predict(interaction(model, history.items, history.length))]
    with torch.no_grad():
        model.item_embedding.weight[0].add_(5)
        found.append(model.full_sort_predict(interaction(model, history.items, history.length)))
    assert torch.equal(found[0][:, 1:], found[1][:, 1:])


def test_a_rank_counts_the_items_that_score_higher():
    model = model_of("AttnSASRec")
    found = ranks(model, CASES)
    for case in range(4):
        batch = {model.ITEM_SEQ: CASES.items[case : case + 1], model.ITEM_SEQ_LEN: CASES.length[case : case + 1]}
        scores = model.full_sort_predict(batch)[0, 1:].tolist()
        assert found[case] == 1 + sum(score > scores[CASES.target[case] - 1] for score in scores)
    np.testing.assert_allclose(ndcg(np.array([1, 3, 10, 11]), 10), [1, 0.5, 1 / np.log2(11), 0])


def test_the_most_and_the_least_attended_items_are_erased_by_their_weight():
    """By hand, for the one history of more than three items; the last item is left alone."""
    model, case = model_of("AWRSR"), 0
    moves = erasures([model], CASES).moves[0]
    assert np.isnan(moves[1:3]).all() and np.isfinite(moves[[0, 3]]).all()
    maps = user_maps(model, CASES, [""] * N_ITEMS, [""] * N_ITEMS)[case]
    for stage, key in enumerate(("A", "final")):
        weights = np.mean([layer[key][:, -1, :-1].mean(0) for layer in maps.layers], 0)
        for choice, place in enumerate((weights.argmax(), weights.argmin())):
            alone = CASES.take(np.array([case]))
            moved = np.log2(ranks(model, erase(alone, torch.tensor([place]))) / ranks(model, alone))
            assert moves[case, stage, choice] == pytest.approx(moved[0])
    np.testing.assert_array_equal(moves[:, 0, 2], moves[:, 1, 2])


def test_how_far_ranks_move_is_averaged_over_trainings_within_the_user():
    models = [model_of("ACTSR"), model_of("ACTSR")]
    found = erasures(models, LONG)
    each = [erasures([model], LONG, seed).moves[0] for seed, model in enumerate(models)]
    np.testing.assert_array_equal(found.moves, each)
    np.testing.assert_allclose(found.size, (np.abs(each[0]) + np.abs(each[1])) / 2)
    np.testing.assert_allclose(found.beyond_random[..., 1], found.size[..., 1] - found.size[..., 2])


def test_robustness_starts_from_the_clean_scores_and_meets_every_model_with_the_same_noise():
    models = [model_of("AttnSASRec"), model_of("AttnSASRec")]
    found = robustness(models, LONG, N_ITEMS, 10, kinds=("drop", "swap"), shares=(0.0, 0.5), draws=2)
    assert found.values.shape == (2, 2, 2, 2, 4)
    np.testing.assert_array_equal(found.values[0], found.values[1])
    np.testing.assert_array_equal(found.values[0, 1, 1, 0], ndcg(ranks(models[0], LONG), 10))
    noisy = disturb(LONG, "swap", 0.5, N_ITEMS, seed=1)
    np.testing.assert_array_equal(found.values[0, 1, 1, 1], ndcg(ranks(models[0], noisy), 10))
    np.testing.assert_allclose(found.loss.mean(0), found.curve[:, 0] - found.curve[:, 1])
    with pytest.raises(ValueError, match="shares must begin with 0"):
        robustness(models, LONG, N_ITEMS, 10, shares=(0.5,))


def test_intervals_are_students_and_leave_unknown_users_out():
    values = np.random.default_rng(0).normal(size=(30, 2))
    values[5, 0] = np.nan
    found = estimate(values)
    known = values[np.isfinite(values[:, 0]), 0]
    low, high = stats.t.interval(0.95, 28, known.mean(), stats.sem(known))
    assert (found.low[0], found.high[0], found.users[0]) == pytest.approx((low, high, 29))
    assert np.isnan(estimate(np.ones((1, 1))).mean).all()


def test_an_interval_covers_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(1)
    found = estimate(draw.exponential(size=(200, 2000)) - 1)
    assert 0.92 < 1 - found.certain.mean() < 0.97


def test_the_related_item_is_the_one_users_had_together_with_the_target():
    matrix = sparse.csr_matrix(np.array([[0] * 6, [0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 1, 0],
                                         [0, 0, 1, 0, 0, 0]]))  # fmt: skip
    items = np.array([[2, 1, 3, 0], [1, 2, 3, 3], [3, 5, 0, 0], [1, 2, 0, 0]])
    found = steps_to_related(matrix, items, np.array([4, 4, 4, 5]))
    np.testing.assert_array_equal(found, [2, 4, np.nan, np.nan])  # 1 was had twice, 2 three times: 1 is nearer to 4


def test_groups_hold_every_case_whose_value_is_known():
    cases = LONG._replace(history=np.array([1, 5, 9, 30]), gap=np.array([3.0, np.nan, 7.0, 9.0]))
    groups = group(cases, "history")
    assert (groups.member >= 0).all()
    np.testing.assert_allclose(groups.means(np.arange(4.0)).users.sum(), 4)
    assert group(cases, "gap").member[1] == -1
    assert group(cases, "related") is None


def test_users_are_counted_by_the_sign_of_their_difference():
    users = np.array(["a", "a", "b", "c"])
    assert sides(np.array([1, 0, 0, 1.0]), np.array([0, 1, 0, 0.0]), users) == (1, 2, 0)
