"""Losses against sampled negatives: equal to loops over their formulas, and in expectation to the whole softmax."""

import math

import pytest
import torch
from runs import command, mistake, train, write_chains
from test_models import N_ITEMS, batch, build
from torch.nn.functional import cross_entropy

from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.cli import main
from recbole_attn.sampled import NegativeSampler, gbce, gbce_beta, sampled_softmax, scores_of

PER = pytest.mark.parametrize("per_target", [False, True])
SMALL = {"n_layers": 1, "hidden_size": 8, "inner_size": 8, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}


def problem(targets=6, n_items=20, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(targets, 5, generator=generator, dtype=dtype, requires_grad=True)
    table = torch.randn(n_items, 5, generator=generator, dtype=dtype, requires_grad=True)
    return state, table, torch.randint(1, n_items, (targets,), generator=generator)


def sampler(per_target=False, distribution="uniform", n_items=20, n_negatives=7):
    counts = torch.arange(n_items)
    return NegativeSampler(
        n_items=n_items, n_negatives=n_negatives, distribution=distribution, counts=counts, per_target=per_target
    )


def parts(state, table, target, items):
    positive = (state * table[target]).sum(1)
    return positive, scores_of(state, items, table), items == target[:, None]


def looped(state, table, target, items, term):
    """The mean over targets of term(s⁺, [(item, s_j) of the negatives that are not the target])."""
    losses = []
    for row, item in enumerate(target.tolist()):
        chosen = items if items.dim() == 1 else items[row]
        negatives = [(j, state[row] @ table[j]) for j in chosen.tolist() if j != item]
        losses.append(term(state[row] @ table[item], negatives))
    return sum(losses) / len(losses)


def assert_same_with_gradients(ours, theirs, inputs):
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for mine, other in zip(*(torch.autograd.grad(loss, inputs) for loss in (ours, theirs))):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@PER
@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
@pytest.mark.parametrize("corrected", [True, False])
def test_sampled_softmax_is_its_formula(per_target, distribution, corrected):
    state, table, target = problem()
    draws = sampler(per_target, distribution)
    torch.manual_seed(2)
    draw = draws.draw(len(target))
    target[0] = draw.items.flatten()[0]
    weight = [0.0] + [1.0 + (j if distribution == "popularity" else 0) for j in range(1, 20)]

    def term(positive, negatives):
        total = positive.exp()
        for j, score in negatives:
            total = total + score.exp() / (7 * weight[j] / sum(weight) if corrected else 1)
        return total.log() - positive

    positive, negative, hit = parts(state, table, target, draw.items)
    assert hit.any()
    ours = sampled_softmax(positive, negative, draw.log_expected if corrected else None, hit)
    assert_same_with_gradients(ours, looped(state, table, target, draw.items, term), [state, table])


@PER
@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_is_its_formula(per_target, t):
    state, table, target = problem()
    items = sampler(per_target).draw(len(target)).items
    alpha = 7 / 18  # of 20, neither the padding nor the target

    def term(positive, negatives):
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        total = torch.log(torch.sigmoid(positive) ** beta)
        for _, score in negatives:
            total = total + torch.log(1 - torch.sigmoid(score))
        return -total / 8

    positive, negative, hit = parts(state, table, target, items)
    ours = gbce(positive, negative, hit, gbce_beta(7, 20, t))
    assert_same_with_gradients(ours, looped(state, table, target, items, term), [state, table])


def test_gbce_without_calibration_is_binary_cross_entropy_and_with_all_items_too():
    assert gbce_beta(7, 20, 0.0) == pytest.approx(1)
    assert gbce_beta(7, 20, 1.0) == pytest.approx(7 / 18)
    assert gbce_beta(18, 20, 0.6) == gbce_beta(500, 20, 0.6) == 1


def test_with_every_item_as_a_negative_sampled_softmax_is_the_whole_one():
    state, table, target = problem()
    items = torch.arange(1, 20)
    ours = sampled_softmax(*parts(state, table, target, items)[:2], torch.zeros(19), items == target[:, None])
    whole = cross_entropy(state @ table[1:].T, target - 1)
    assert_same_with_gradients(ours, whole, [state, table])


@PER
@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_the_corrected_sum_over_negatives_estimates_that_over_all_items(per_target, distribution):
    """Within five standard errors; without the correction it is far off."""
    state, table, target = problem(targets=1)
    draws = sampler(per_target, distribution)
    torch.manual_seed(0)
    sums, plain = [], []
    with torch.no_grad():
        wanted = torch.exp(state @ table[1:].T).sum() - torch.exp(state @ table[target].T).sum()
        for _ in range(1500):
            draw = draws.draw(1)
            _, negative, hit = parts(state, table, target, draw.items)
            sums.append((negative - draw.log_expected).exp().masked_fill(hit, 0).sum())
            plain.append(negative.exp().masked_fill(hit, 0).sum())
    sums = torch.stack(sums)
    error = sums.std() / math.sqrt(len(sums))
    assert abs(sums.mean() - wanted) < 5 * error
    assert abs(torch.stack(plain).mean() - wanted) > 10 * error


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_negatives_are_drawn_as_often_as_expected_and_never_the_padding(distribution):
    draws = sampler(distribution=distribution, n_negatives=200_000)
    torch.manual_seed(0)
    draw = draws.draw(1)
    found = torch.bincount(draw.items, minlength=20).double()
    expected = torch.zeros(20, dtype=torch.float64).scatter(0, draw.items, draw.log_expected.exp())
    assert found[0] == 0
    assert ((found - expected).abs() < 5 * expected.sqrt() + 1e-9).all()
    if distribution == "popularity":  # 1 + count
        torch.testing.assert_close(expected[1:] / expected[1], (1 + torch.arange(1.0, 20)).double() / 2)


def test_huge_scores_give_finite_losses():
    state, table, target = problem(dtype=torch.float32)
    draw = sampler().draw(len(target))
    positive, negative, hit = parts(state * 1e4, table, target, draw.items)
    assert sampled_softmax(positive, negative, draw.log_expected, hit).isfinite()
    assert gbce(positive, negative, hit, 0.5).isfinite()


LOSSES = pytest.mark.parametrize("loss_type", ["SSM", "gBCE"])
NAMES = pytest.mark.parametrize("name", ["AttnSASRec", "AWRSR", "ACTSR"])


def windows(targets):
    """A batch of whole sequences: a target after every item, some not counted."""
    interaction = batch()
    following = torch.randint(1, N_ITEMS, interaction["item_list"].shape, generator=torch.Generator().manual_seed(1))
    interaction["item"] = following * (interaction["item_list"] != 0) * (following % 3 > 0)
    return interaction if targets == "windows" else batch()


@NAMES
@LOSSES
@PER
@pytest.mark.parametrize("targets", ["prefixes", "windows"])
def test_every_model_trains_on_sampled_losses(name, loss_type, per_target, targets):
    model = build(name, **SMALL, loss_type=loss_type, n_negatives=5, negatives_per="target" if per_target else "batch")
    losses = model.calculate_loss(windows(targets))
    loss = sum(losses) if isinstance(losses, tuple) else losses
    loss.backward()
    assert loss.isfinite()
    assert model.item_embedding.weight.grad.abs().sum() > 0


@LOSSES
def test_calibrated_states_and_their_shadow_are_asked_about_the_same_negatives(loss_type, monkeypatch):
    model = build("ACTSR", **SMALL, loss_type=loss_type, n_negatives=5)
    seen = []
    sampled = model._sampled
    monkeypatch.setattr(
        model, "_sampled", lambda state, target, draw: seen.append(draw) or sampled(state, target, draw)
    )
    model.calculate_loss(batch())
    assert len(seen) == 2 and seen[0] is seen[1]


@LOSSES
def test_a_sampled_loss_adds_nothing_to_a_checkpoint(loss_type):
    assert build("AttnSASRec", loss_type=loss_type).state_dict().keys() == build("AttnSASRec").state_dict().keys()


def test_the_models_loss_is_the_sampled_softmax_of_its_states():
    model, interaction = build("AttnSASRec", **SMALL, loss_type="SSM", n_negatives=9), batch()
    torch.manual_seed(1)
    loss = model.calculate_loss(interaction)
    torch.manual_seed(1)
    draw = model.sampler.draw(16)
    positive, negative, hit = parts(
        model.user_state(interaction), model.item_embedding.weight, interaction["item"], draw.items
    )
    torch.testing.assert_close(loss, sampled_softmax(positive, negative, draw.log_expected, hit))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_negatives": 0}, "n_negatives must be at least 1, not 0"),
        ({"negative_distribution": "zipf"}, "negative_distribution must be uniform or popularity, not 'zipf'"),
        ({"negatives_per": "epoch"}, "negatives_per must be batch or target, not 'epoch'"),
        ({"loss_type": "gBCE", "gbce_t": 1.5}, r"gbce_t must lie in \[0, 1\], not 1.5"),
        ({"loss_type": "gBCE", "negative_distribution": "popularity"}, "must be uniform for loss_type=gBCE"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        build("AttnSASRec", **{"loss_type": "SSM", **changes})


def test_bert4rec_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="loss_type must be CE, not 'SSM'"):
        build("AttnBERT4Rec", loss_type="SSM")


@pytest.fixture
def chains(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_with_popular_negatives_is_resumed_exactly(chains, capsys):
    settings = {"model": "AttnSASRec", "dataset": "chains", "loss_type": "SSM", "negative_distribution": "popularity"}
    settings |= {"n_negatives": 4, "training": "sequence", "n_layers": 1}
    whole, _ = train(chains, capsys, **settings, epochs=2)
    half, _ = train(chains, capsys, **settings, epochs=1)
    last = half.replace("best.pth", "last.pth")
    assert main([f"--resume={last}", "--epochs=2"]) == 0
    ours, theirs = (load_checkpoint(path)["state_dict"] for path in (last, whole.replace("best.pth", "last.pth")))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@LOSSES
@PER
def test_sampled_losses_learn_which_item_follows(loss_type, per_target):
    """Every history ends in item n, and n + 1 follows."""
    sizes = {**SMALL, "hidden_size": 32, "n_negatives": 24, "initializer_range": 0.1}
    model = build("AttnSASRec", **sizes, loss_type=loss_type, negatives_per="target" if per_target else "batch")
    last = torch.arange(1, N_ITEMS - 1)
    interaction = {"item_list": last[:, None], "length": torch.ones_like(last), "item": last + 1}
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(300):
        optimiser.zero_grad()
        model.calculate_loss(interaction).backward()
        optimiser.step()
    found = model.full_sort_predict(interaction)[:, 1:].argmax(1) + 1
    assert (found == last + 1).float().mean() > 0.8


def test_recboles_negatives_contradict_a_sampled_loss(chains, capsys):
    settings = {"model": "AWRSR", "dataset": "chains", "loss_type": "SSM"}
    line = mistake(command(chains, **settings, train_neg_sample_args="{'distribution': 'uniform'}"), capsys)
    assert "contradicts loss_type = SSM: set it to ~" in line


def test_recboles_models_have_no_sampled_loss(chains, capsys):
    line = mistake(["--model=SASRec", "--dataset=chains", f"--data_path={chains}", "--loss_type=SSM"], capsys)
    assert "loss_type = 'SSM'" in line
