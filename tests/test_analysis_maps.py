"""The maps that mechanisms offer to look at, and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mechanisms import MECHANISMS, make
from recbole.model.sequential_recommender import SASRec
from test_contract import histories, inputs
from test_models import N_ITEMS, Catalogue, build, copy_from_recbole, settings

from recbole_attn.analysis.cases import Cases
from recbole_attn.analysis.inside import look
from recbole_attn.analysis.maps import average_maps, user_maps
from recbole_attn.analysis.measures import NAMES, measure
from recbole_attn.masks import bidirectional_mask, causal_mask
from recbole_attn.model import MODELS


def model_of(name, **changes):
    """A model with weights large enough that its maps are far from uniform."""
    model = build(name, **{"hidden_size": 8, "inner_size": 8, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def cases_of(*histories_, width=7):
    items = torch.zeros(len(histories_), width, dtype=torch.long)
    for row, history in enumerate(histories_):
        items[row, : len(history)] = torch.tensor(history)
    number = len(histories_)
    length = (items != 0).sum(1)
    nothing = np.full(number, np.nan)
    users = np.array([f"u{row}" for row in range(number)])
    return Cases(
        users, items, length, torch.arange(1, number + 1), length.numpy(), np.ones(number, int), nothing, nothing
    )


CASES = cases_of([1, 2, 3, 4, 5, 6, 7], [3, 1], [5], [2, 4, 6, 8])


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("mask_of", [causal_mask, bidirectional_mask], ids=["causal", "bidirectional"])
def test_the_last_map_to_look_at_is_the_one_that_weighs(name, mask_of):
    mechanism, mask = make(name).eval(), mask_of(histories())
    maps = mechanism.maps(inputs(), mask)
    torch.testing.assert_close(list(maps.values())[-1], mechanism.weigh(inputs(), mask), rtol=0, atol=0)
    assert all(found.shape == (3, 2, 7, 7) for found in maps.values())
    assert all(found.masked_select(~mask).abs().max() == 0 for found in maps.values())


def test_ac_tsr_names_the_five_maps_of_the_paper_and_what_becomes_of_them():
    mechanism, mask = make("calibrated"), causal_mask(histories())
    maps = mechanism.maps(inputs(), mask)
    assert list(maps) == ["plain", "spatially calibrated", "keep-mask", "attacked", "calibrated", "combined"]
    weights, keep = maps["spatially calibrated"], maps["keep-mask"]
    raised = weights * (1 - keep).exp() * mask
    torch.testing.assert_close(maps["calibrated"], raised / raised.sum(-1, keepdim=True))
    queries, keys = (
        project(inputs()).unflatten(-1, (2, 4)).transpose(1, 2) for project in (mechanism.query, mechanism.key)
    )
    plain = (queries @ keys.transpose(-1, -2) / 2).masked_fill(~mask, -torch.inf).softmax(-1)
    torch.testing.assert_close(maps["plain"], plain)
    assert list(make("calibrated by order").maps(inputs(), mask)) == ["plain", "spatially calibrated"]


def test_awrsr_names_a_and_r_and_the_final_map():
    mask = causal_mask(histories())
    assert list(make("simple").maps(inputs(), mask)) == ["A", "R"]
    maps = make("value").maps(inputs(), mask)
    assert list(maps) == ["A", "R", "final"]
    torch.testing.assert_close(maps["final"], maps["R"] @ maps["A"])


@pytest.mark.parametrize("name", MODELS)
def test_looking_changes_no_score_and_leaves_no_hook(name):
    model, cases = model_of(name), CASES.take(np.arange(80) % 4)  # more than RPG encodes at once in training
    batch = {model.ITEM_SEQ: cases.items, model.ITEM_SEQ_LEN: cases.length}
    with torch.no_grad():
        before, state = model.full_sort_predict(batch), torch.get_rng_state()
        seen = list(look(model, cases))
        assert torch.equal(torch.get_rng_state(), state)
        torch.testing.assert_close(model.full_sort_predict(batch), before, rtol=0, atol=0)
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert sum(len(part.rows) for part in seen) == 80 and len(seen[0].maps) == 2
    assert all(len(found) == len(part.rows) for part in seen for layer in part.maps for found in layer.values())


def test_a_users_map_has_a_row_for_each_item_and_no_padding():
    titles = [f"film {number}" for number in range(N_ITEMS)]
    ids = [f"i{number}" for number in range(N_ITEMS)]
    maps = user_maps(model_of("AWRSR"), CASES, titles, ids)
    assert maps[1].labels == ["film 3", "film 1"] and maps[1].items == ["i3", "i1"]
    assert {found.shape for layer in maps[3].layers for found in layer.values()} == {(2, 4, 4)}
    for one in maps:
        for layer in one.layers:
            np.testing.assert_allclose(layer["final"].sum(-1), 1, atol=1e-5)
    asked = user_maps(model_of("AttnBERT4Rec"), CASES, titles, ids)[1]
    assert asked.labels == ["film 3", "film 1", "?"] and asked.layers[0]["weights"].shape == (2, 3, 3)


@pytest.mark.parametrize("name", ["AWRSR", "AttnBERT4Rec"])
def test_the_average_is_the_mean_over_those_users_that_have_the_cell(name):
    model = model_of(name)
    average = average_maps(model, CASES)
    alone = user_maps(model, CASES, [str(number) for number in range(N_ITEMS)], [""] * N_ITEMS)
    width = average.users.shape[0]
    for depth, layer in enumerate(average.layers):
        for key, found in layer.items():
            for row in range(width):
                for column in range(width):
                    cells = [
                        one.layers[depth][key][:, row - width, column - width]
                        for one in alone
                        if min(row, column) - width >= -one.layers[depth][key].shape[-1]
                    ]
                    assert len(cells) == average.users[row, column]
                    np.testing.assert_allclose(found[:, row, column], np.mean(cells, 0), rtol=1e-5, atol=1e-7)


def test_recboles_sasrec_shows_the_maps_of_the_control_with_its_weights():
    ours, theirs = build("AttnSASRec").eval(), SASRec(settings("AttnSASRec"), Catalogue()).eval()
    copy_from_recbole(ours, theirs)
    for mine, other in zip(look(ours, CASES), look(theirs, CASES)):
        for layer, found in zip(mine.maps, other.maps):
            for row, length in enumerate(CASES.length[mine.rows].tolist()):
                both = (maps["weights"][row, :, :length, :length] for maps in (layer, found))
                torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)


def by_loops(weights, back):
    """The measures of one row of weights (H, n), in the order of NAMES, without drift."""
    size = np.abs(weights) / np.abs(weights).sum(-1, keepdims=True)
    share = weights / np.abs(weights).sum(-1, keepdims=True)
    rows = []
    for head, row in enumerate(size):
        entropy = -sum(w * np.log(w) for w in row if w > 0)
        others = [1 - np.abs(share[head] - other).sum() / 2 for place, other in enumerate(share) if place != head]
        far = [sum(w for w, b in zip(row, back) if b > steps) for steps in (10, 25)]
        rows.append([entropy, np.exp(entropy), row @ back, *far, np.mean(others), -share[head][share[head] < 0].sum()])
    return np.array(rows)


def test_measures_equal_loops_over_single_histories():
    model = model_of("AWRSR", MAX_ITEM_LIST_LENGTH=30)
    cases = cases_of([1 + number % 11 for number in range(30)], [3, 1], [5], width=30)
    found = measure([model], cases, N_ITEMS)
    assert found.after.shape == (1, 3, 2, 2, len(NAMES)) and found.changed
    for case, maps in enumerate(user_maps(model, cases, [""] * N_ITEMS, [""] * N_ITEMS)):
        for depth, layer in enumerate(maps.layers):
            back = np.arange(layer["A"].shape[-1])[::-1]
            for values, key in ((found.before, "A"), (found.after, "final")):
                expected = by_loops(layer[key][:, -1].astype(float), back)
                np.testing.assert_allclose(values[0, case, depth, :, :-1], expected, rtol=1e-4, atol=1e-5)
    assert (found.after[0, 0, ..., -1] > 0).all() and (found.after[0, 0, ..., -1] < 1).all()
    assert (found.after[0, 2, ..., -1] == 0).all()  # one item, which noise spares


def test_trainings_are_measured_each_and_averaged_within_the_user():
    models = [model_of("AWRSR"), model_of("AWRSR")]
    found = measure(models, CASES, N_ITEMS)
    for number, model in enumerate(models):
        alone = measure([model], CASES, N_ITEMS)
        np.testing.assert_array_equal(found.after[number], alone.after[0])
    before, after = found.by_user("distance")
    place = list(NAMES).index("distance")
    for user in range(4):
        assert before[user] == pytest.approx(found.before[:, user, :, :, place].mean())
        assert after[user] == pytest.approx(found.after[:, user, :, :, place].mean())
