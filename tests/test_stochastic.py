"""Gaussians, their distance at extreme inputs, and the models that rest on them."""

from pathlib import Path

import pytest
import reference_stochastic
import torch
from mechanisms import Largest, far_from_uniform, stochastic
from runs import mistake, train, write_chains
from test_contract import histories, inputs
from test_models import N_ITEMS, batch, build

from recbole_attn.attention import Refined, Refinement
from recbole_attn.attention.gaussian import (
    SMALLEST,
    covariance,
    nearness,
    nearness_within,
    points,
    shifted_points,
    squared_distances,
)
from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.masks import causal_mask, masked_softmax
from recbole_attn.stochastic_encoder import StochasticLayer

SIZES = {"hidden_size": 4, "inner_size": 6, "dropout": 0.0, "norm_eps": 1e-12}
REFINEMENTS = ("simple", "value", "value_map", "additive", "bahdanau", "stochastic")


def layer(legacy_mean=False):
    torch.manual_seed(1)
    return far_from_uniform(StochasticLayer(stochastic(), legacy_mean=legacy_mean, **SIZES))


def steep(name, **changes):
    """A model in float64 without dropout, whose weights are not small."""
    model = build(name, hidden_dropout_prob=0.0, attn_dropout_prob=0.0, hidden_size=4, inner_size=6, **changes)
    return far_from_uniform(model)


@pytest.mark.parametrize("x", [-1e30, -1000.0, -103.0, -60.0, -18.0, -5.0, 0.0, 3.0, 1e6])
def test_a_covariance_is_elu_plus_one_but_never_zero_and_its_root_has_a_finite_gradient(x):
    x = torch.tensor(x, requires_grad=True)
    found = covariance(x)
    exact = x.detach().double()
    exact = exact.exp() if exact < 0 else exact + 1
    assert found.item() == pytest.approx(max(exact.item(), SMALLEST), rel=1e-5)
    found.sqrt().backward()
    assert x.grad.isfinite()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1000.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_distances_by_matmul_stay_within_their_bound(scale, offset):
    torch.manual_seed(0)
    a = scale * (torch.randn(3, 7, 64) + offset)
    b = torch.cat([a[:, :4], scale * (torch.randn(3, 5, 64) + offset)], 1)  # of some the distance is 0
    found = squared_distances(a, b)
    exact = (a.double()[:, :, None] - b.double()[:, None]).square().sum(-1)
    bound = 1e-5 * (a.double().square().sum(-1)[..., None] + b.double().square().sum(-1)[:, None])
    assert found.min() >= 0
    assert ((found - exact).abs() <= bound).all()


def test_embedded_items_are_gaussians_as_the_formula_has_them():
    model = steep("STOSA").eval()
    item_seq = batch(length=6)["item_list"]
    mean = model.input_norm(model.item_embedding(item_seq) + model.position_embedding.weight[:6])
    raw = model.covariance_norm(model.item_covariance(item_seq) + model.position_covariance.weight[:6])
    found_mean, found_covariance = model.embed(item_seq).chunk(2, -1)
    torch.testing.assert_close(found_mean, torch.where(mean > 0, mean, mean.exp() - 1))
    torch.testing.assert_close(found_covariance, torch.where(raw > 0, raw + 1, raw.exp()))


@pytest.mark.parametrize("legacy", [True, False])
def test_legacy_means_go_through_all_layers_as_they_were_embedded(legacy):
    model, histories = steep("STOSA", legacy_mean=legacy).eval(), batch(length=6)
    means = model.embed(histories["item_list"]).chunk(2, -1)[0]
    last = means[torch.arange(len(means)), histories["length"] - 1]
    state = model.forward(histories["item_list"], histories["length"]).chunk(2, -1)[0]
    assert torch.allclose(state, last) == legacy


@pytest.mark.parametrize("refinement", [None, *REFINEMENTS])
@pytest.mark.parametrize("scale", [1e-8, 1000.0, 1e6])
def test_extreme_inputs_give_weights_and_finite_gradients(refinement, scale):
    torch.manual_seed(2)
    mechanism = stochastic(refinement)
    x = (scale * torch.randn(3, 7, 8)).requires_grad_()
    weights = mechanism.weigh(x, causal_mask(histories()))
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 7))
    (weights * torch.randn_like(weights)).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in mechanism.parameters() if p.grad is not None)


def test_the_layer_equals_the_loops_in_value_and_gradient():
    block, x, mask = layer(), inputs(5).requires_grad_(), causal_mask(histories(5))
    leaves = [x, *block.parameters()]
    fast, slow = block(x, mask).hidden, reference_stochastic.layer(block, x, mask)
    torch.testing.assert_close(fast, slow)
    for ours, theirs in zip(*(torch.autograd.grad(out.sin().sum(), leaves) for out in (fast, slow))):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("legacy_mean", [False, True])
def test_the_layer_computes_selected_rows_as_it_computes_all(legacy_mean):
    block, x, mask = layer(legacy_mean), inputs(), causal_mask(histories())
    rows = torch.tensor([[6, 2], [3, 0], [0, 0]])
    every = block(x, mask).hidden
    chosen = every.gather(1, rows[..., None].expand(-1, -1, 8))
    torch.testing.assert_close(block(x, mask, rows).hidden, chosen)


def test_legacy_means_pass_unchanged_and_covariances_as_ever():
    block, old, x, mask = layer(), layer(legacy_mean=True), inputs(), causal_mask(histories())
    old.load_state_dict(block.state_dict(), strict=False)
    assert torch.equal(old(x, mask).hidden[..., :4], x[..., :4])
    torch.testing.assert_close(old(x, mask).hidden[..., 4:], block(x, mask).hidden[..., 4:])


@pytest.mark.parametrize("pvn_weight", [0.0, 0.3])
def test_scores_and_loss_of_stosa_equal_the_loops(pvn_weight):
    model, interaction = steep("STOSA", pvn_weight=pvn_weight), batch(4, size=3)
    states = model.forward(interaction["item_list"], interaction["length"])
    slow = [[reference_stochastic.score(model, state, item) for item in range(N_ITEMS)] for state in states.detach()]
    torch.testing.assert_close(model.full_sort_predict(interaction), torch.tensor(slow, dtype=torch.float64))
    exact = reference_stochastic.loss(model, states, interaction["item"], interaction["neg_item"])
    found = model.calculate_loss(interaction)
    torch.testing.assert_close(found, exact)
    used = [p for p in model.parameters() if p.requires_grad]
    for ours, theirs in zip(*(torch.autograd.grad(value, used, allow_unused=True) for value in (found, exact))):
        torch.testing.assert_close(ours, theirs)


def test_the_penalty_is_felt_where_the_target_is_further_than_its_negative():
    plain, penalised = (steep("STOSA", pvn_weight=weight) for weight in (0.0, 1.0))
    assert penalised.calculate_loss(batch()) > plain.calculate_loss(batch()) + 0.1


def test_ranking_all_items_makes_no_tensor_beyond_one_score_for_each_history_and_item():
    model = build("STOSA", n_layers=1, hidden_size=16, inner_size=16).eval()
    with Largest() as seen, torch.no_grad():
        model.full_sort_predict(batch(size=64))
    assert seen.numbers <= max(64 * N_ITEMS, 64 * 10 * 2 * 16)  # scores, or the Gaussians of the histories


def test_awrstosa_without_refined_layers_is_stosa():
    control, model = build("STOSA").eval(), build("AWRSTOSA", attention_layers=[]).eval()
    torch.testing.assert_close(model.full_sort_predict(batch()), control.full_sort_predict(batch()), rtol=0, atol=0)


def test_additive_refinement_with_a_share_of_zero_is_stosa():
    model, control = build("AWRSTOSA", refinement="additive", mix=0.0).eval(), build("STOSA").eval()
    control.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(model.full_sort_predict(batch()), control.full_sort_predict(batch()))


def test_refinement_stands_in_the_chosen_layers_only():
    model = build("AWRSTOSA", n_layers=3, attention_layers=[1])
    assert [block.attention.refinement is not None for block in model.encoder.layers] == [False, True, False]


@pytest.mark.parametrize("name", ["STOSA", "AWRSTOSA"])
def test_both_streams_and_every_norm_are_trained_each_with_its_own(name):
    model = build(name)
    model.calculate_loss(batch()).backward()
    norms = [key for key, _ in model.named_parameters() if "norm.weight" in key]
    assert len(norms) == 2 + 2 * 4
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("refinement", REFINEMENTS)
@pytest.mark.parametrize("scale", ["learned", "sqrt_n"])
def test_long_and_one_item_histories_train_for_some_steps_without_nan(refinement, scale):
    settings = {"n_heads": 8, "hidden_size": 16, "inner_size": 16, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 200}
    for name in ("AWRSTOSA", "AWRSR") if refinement != "stochastic" else ("AWRSTOSA",):
        model = build(name, refinement=refinement, scale=scale, **settings)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(3):
            interaction = batch(200, size=2, seed=step)
            interaction["length"][1] = 1
            interaction["item_list"][1, 1:] = 0
            optimizer.zero_grad()
            loss = model.calculate_loss(interaction)
            loss.backward()
            optimizer.step()
            assert loss.isfinite()
        assert all(p.isfinite().all() for p in model.parameters())
        assert model.eval().full_sort_predict(interaction).isfinite().all()


def test_a_history_longer_than_the_matrices_is_refused_in_one_line():
    model = build("AWRSTOSA", MAX_ITEM_LIST_LENGTH=5)
    attention = model.encoder.layers[0].attention
    with pytest.raises(ValueError, match="made for histories of up to 5 items, and these have 6"):
        attention.weigh(torch.randn(2, 6, 128), causal_mask(torch.ones(2, 6)))


@pytest.mark.parametrize("model", ["AWRSR", "AWRSTOSA"])
def test_a_length_that_differs_from_that_of_the_matrices_is_refused_by_name(model, tmp_path, capsys):
    write_chains(tmp_path)
    checkpoint, _ = train(tmp_path, capsys, model=model, dataset="chains", epochs=1)
    last = Path(checkpoint).with_name("last.pth")
    line = mistake([f"--resume={last}", "--MAX_ITEM_LIST_LENGTH=9", "--epochs=2"], capsys)
    assert "does not fit" in line
    assert "MAX_ITEM_LIST_LENGTH (8 there, 9 here)" in line
    (tmp_path / "h.tsv").write_text("anna\ti1\n")
    predict = [f"--checkpoint={checkpoint}", f"--predict={tmp_path / 'h.tsv'}"]
    assert "MAX_ITEM_LIST_LENGTH: has no effect" in mistake([*predict, "--MAX_ITEM_LIST_LENGTH=9"], capsys)


def test_a_checkpoint_whose_matrices_have_other_names_is_refused_in_one_line(tmp_path, capsys):
    write_chains(tmp_path)
    checkpoint, _ = train(tmp_path, capsys, model="AWRSR", dataset="chains", epochs=1)
    state = load_checkpoint(checkpoint)
    named = {key.replace("refinement.", ""): value for key, value in state["state_dict"].items()}
    torch.save({**state, "state_dict": named}, tmp_path / "old.pth")
    (tmp_path / "h.tsv").write_text("anna\ti1\n")
    line = mistake([f"--checkpoint={tmp_path / 'old.pth'}", f"--predict={tmp_path / 'h.tsv'}"], capsys)
    assert "the program's version differs" in line


@pytest.mark.parametrize("length", [9, 50])
def test_small_differences_of_covariances_outlive_half_precision(length):
    torch.manual_seed(0)
    sizes = {"n_heads": 2, "max_length": length}
    refinement = Refinement(**sizes, refinement="stochastic", scale="learned", scale_init=10.0, index="start", mix=0.5)
    mask = causal_mask(torch.ones(3, length, dtype=torch.long))
    first = masked_softmax(0.3 * torch.randn(3, 2, length, length), mask)
    goal = torch.randn_like(first)

    def gradient(half):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = (refinement(first, mask) * goal).sum()
        return torch.autograd.grad(loss, refinement.covariance_map)[0]

    exact = gradient(False)
    assert (gradient(True) - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("refinement", ["simple", "value", "value_map"])
def test_a_learned_mix_has_a_parameter_only_where_something_is_mixed(refinement):
    sizes = {"hidden_size": 8, "n_heads": 2, "dropout": 0.0, "max_length": 5}
    made = Refined(**sizes, refinement=refinement, scale="learned", scale_init=1.0, index="start", mix="learned")
    assert not any("mix" in name for name in made.state_dict())


def test_points_of_gaussians_are_means_and_roots_of_covariances():
    assert points(torch.tensor([1.0, -2.0]), torch.tensor([4.0, 9.0])).tolist() == [1, -2, 2, 3]


def test_shifted_points_are_as_far_apart_as_points_with_the_same_gradients():
    torch.manual_seed(0)
    both = (3 * torch.randn(2, 7, 6, dtype=torch.float64)).requires_grad_()
    upstream = torch.randn(2, 7, 7, dtype=torch.float64)
    pairs = []
    for made in (points(both.chunk(2, -1)[0], covariance(both.chunk(2, -1)[1])), shifted_points(both)):
        distances = squared_distances(made, made)
        pairs.append((distances, *torch.autograd.grad((upstream * distances).sum(), both)))
    for expected, found in zip(*pairs, strict=True):
        torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(shifted_points, both)


@pytest.mark.parametrize("x", [-1e30, -1000.0, -103.0, 0.0, 1e6, 1e30])
def test_shifted_points_and_their_gradient_are_finite_at_extreme_inputs(x):
    both = torch.tensor([0.0, x], requires_grad=True)
    found = shifted_points(both)
    found.sum().backward()
    assert found[1].item() == pytest.approx(covariance(torch.tensor(x)).sqrt().item() - 1, rel=1e-6)
    assert both.grad.isfinite().all()


def test_nearness_within_is_nearness_of_every_pair_with_its_gradients():
    torch.manual_seed(0)
    a = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(nearness_within(a), nearness(a, a))
    assert torch.autograd.gradcheck(nearness_within, a)


def test_stochastic_correlations_of_long_histories_keep_six_digits_in_float32():
    torch.manual_seed(0)
    sizes = {"n_heads": 4, "max_length": 200, "scale": "learned", "scale_init": 1.0, "index": "start", "mix": 0.5}
    refined = Refinement(refinement="stochastic", **sizes)
    mask = causal_mask(torch.ones(2, 200, dtype=torch.long))
    first = masked_softmax(torch.randn(2, 4, 200, 200), mask)
    found = refined(first, mask)
    torch.testing.assert_close(found.double(), refined.double()(first.double(), mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pvn_weight": -0.1}, "pvn_weight must be at least 0, not -0.1"),
        ({"n_heads": 3}, "hidden_size must be a multiple of n_heads, not 64 with n_heads=3"),
        ({"loss_type": "CE"}, "loss_type must be BPR, not 'CE'"),
        ({"refinement": "wasserstein"}, "refinement must be one of simple, .*, stochastic, not 'wasserstein'"),
        ({"attention_layers": [2]}, r"attention_layers must be all or a list of layers from 0 to 1, not \[2\]"),
        ({"index": "recent", "training": "sequence"}, "index=recent .* use index=start or training=prefix"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        build("AWRSTOSA", **changes)
