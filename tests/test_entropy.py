"""The study of entropy: what is measured of a map, and what is said of it."""

import argparse
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import entropy

from recbole_attn.masks import causal_mask, masked_softmax

ITEMS = torch.tensor([[5, 4, 3, 2, 1, 6, 7, 8], [5, 4, 3, 2, 1, 6, 0, 0]])


def test_entropy_is_that_of_a_loop_over_items_that_see_five_keys():
    mask = causal_mask(ITEMS)
    weights = masked_softmax(3 * torch.randn(2, 3, 8, 8), mask)
    expected = [
        [
            -sum(w * math.log(w) for w in weights[b, h, i, : i + 1].tolist()) / math.log(i + 1)
            for b, length in enumerate((8, 6))
            for i in range(4, length)
        ]
        for h in range(3)
    ]
    torch.testing.assert_close(entropy.of_rows(weights, mask), torch.tensor(expected))


def test_a_row_that_reads_one_item_has_0_and_one_that_reads_all_alike_has_1():
    mask = causal_mask(ITEMS)
    even = masked_softmax(torch.zeros(2, 1, 8, 8), mask)
    single = torch.eye(8).expand(2, 1, 8, 8)
    torch.testing.assert_close(entropy.of_rows(even, mask), torch.ones(1, 6))
    torch.testing.assert_close(entropy.of_rows(single, mask), torch.zeros(1, 6))


def layers_with(**means: list[float]) -> dict:
    """A run of one layer, whose heads have these means and all others 1/2."""
    within = {"A": [0.5, 0.5], "R": [0.5, 0.5], "final": [0.5, 0.5], **means}
    return {"layers": [{name: {"mean": heads, "below": [0, 0], "above": [0, 0]} for name, heads in within.items()}]}


def test_a_flat_r_is_named_though_the_final_map_is_within_bounds():
    assert entropy.verdict([layers_with()]) == "within"
    assert entropy.verdict([layers_with(), layers_with(R=[0.5, 0.97])]) == "**R flat (1 of 4)**"
    assert entropy.verdict([layers_with(A=[0.01, 0.02], final=[0.04, 0.5])]) == (
        "**A collapsed (2 of 2); final collapsed (1 of 2)**"
    )


@pytest.mark.parametrize(("model", "refinement"), [("AWRSR", "simple"), ("AWRSR", "value"), ("AWRSTOSA", "stochastic")])
def test_all_maps_of_all_heads_are_measured(model, refinement):
    from recbole_attn.catalogue import Catalogue
    from recbole_attn.config.settings import load_settings
    from recbole_attn.run import build_model

    values = {"refinement": refinement, "MAX_ITEM_LIST_LENGTH": 8, "n_heads": 4, "n_layers": 2, "hidden_size": 8}
    config = load_settings(model, "ml-100k", config_dict=values).config
    built = build_model(config, Catalogue("item_id", [str(i) for i in range(9)])).eval()
    layers = entropy.entropies(built, ITEMS.repeat(40, 1))
    assert len(layers) == 2
    for layer in layers:
        assert all(len(layer[name]["mean"]) == 4 for name in entropy.MAPS)
        assert (layer["R"] == layer["final"]) == (refinement != "value")
        assert layer["A"] != layer["R"]


def test_a_row_is_a_model_a_refinement_it_has_a_scale_and_a_length():
    args = argparse.Namespace(
        models=["AWRSR", "AWRSTOSA"], refinements=["value", "stochastic"], scales=["learned"], lengths=[50, 200]
    )
    assert list(entropy.chosen(args)) == [
        f"{name} | learned | {length}"
        for length in (50, 200)
        for name in ("AWRSR | value", "AWRSTOSA | value", "AWRSTOSA | stochastic")
    ]
    args.models, args.refinements = ["AWRSR"], None
    assert "AWRSR | bahdanau | learned | 50" in entropy.chosen(args)
    assert "AWRSR | bahdanau | learned | 200" in entropy.chosen(args)
