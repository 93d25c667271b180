"""RPG and FAIR: what makes them equal, what each part costs and moves, and what a checkpoint brings."""

import logging

import pytest
import torch
from atomic_files import write
from mechanisms import Largest
from runs import command, train, write_chains
from test_models import batch, build, whole

from recbole_attn.cli import main
from recbole_attn.ranking import Scores
from recbole_attn.recommender import Recommender
from recbole_attn.semantic_ids import SemanticIds

STILL = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "initializer_range": 0.2}
NEUTRAL = {**STILL, "norm": "none", "alpha": 0.0, "beta": 0.0}


def pair(**changes):
    """RPG, and a FAIR with its weights and without a second map."""
    rpg, fair = build("RPG", **STILL), build("FAIR", **{**NEUTRAL, **changes})
    missing = fair.load_state_dict(rpg.state_dict(), strict=False).missing_keys
    assert all(".theta" in name or ".other_" in name for name in missing)
    with torch.no_grad():
        for layer in fair.encoder.layers:
            layer.attention.theta[0], layer.attention.theta[1] = 1.0, 0.0
    return rpg, fair


@pytest.mark.parametrize("make_batch", [batch, lambda: whole(batch())], ids=["prefix", "sequence"])
def test_without_its_three_parts_fair_is_rpg(make_batch):
    rpg, fair = pair()
    interaction = make_batch()
    torch.testing.assert_close(fair.eval().full_sort_predict(interaction), rpg.eval().full_sort_predict(interaction))
    for model in (rpg, fair):
        loss = model.train().calculate_loss(interaction)
        (sum(loss) if isinstance(loss, tuple) else loss).backward()
        model.loss = loss[0] if isinstance(loss, tuple) else loss
    torch.testing.assert_close(fair.loss, rpg.loss)
    theirs = dict(fair.named_parameters())
    for name, parameter in rpg.named_parameters():
        torch.testing.assert_close(theirs[name].grad, parameter.grad, rtol=1e-4, atol=1e-6)


def test_what_is_switched_off_is_not_computed(monkeypatch):
    for name in ("model.fair.noise_loss", "model.fair.info_nce", "codes.CodedItems.perturbed"):
        monkeypatch.setattr(f"recbole_attn.{name}", lambda *_: pytest.fail("computed"))
    losses = build("FAIR", alpha=0.0, beta=0.0).calculate_loss(batch())
    assert (losses.noise, losses.information) == (0, 0)


@pytest.mark.parametrize("make_batch", [batch, lambda: whole(batch())], ids=["prefix", "sequence"])
def test_weights_scale_their_losses_and_leave_the_others_alone(make_batch):
    found = []
    for weights in ({"alpha": 1.0, "beta": 1.0}, {"alpha": 0.25, "beta": 0.5}):
        model = build("FAIR", **STILL, **weights, margin=2.0)
        torch.manual_seed(3)
        found.append(torch.stack(list(model.calculate_loss(make_batch()))))
    assert found[0].min() > 0
    torch.testing.assert_close(found[1], found[0] * torch.tensor([1.0, 0.25, 0.5]))


@pytest.mark.parametrize("make_batch", [batch, lambda: whole(batch())], ids=["prefix", "sequence"])
def test_without_noise_and_dropout_the_second_pass_is_the_first(make_batch):
    model = build("FAIR", **STILL, mask_rate=0.0, replace_rate=0.0, noise_loss="cosine", alpha=1.0)
    assert model.calculate_loss(make_batch()).noise.abs() < 1e-6
    noisy = build("FAIR", **STILL, mask_rate=0.3, noise_loss="cosine", alpha=1.0)
    assert noisy.calculate_loss(make_batch()).noise > 1e-4


@pytest.mark.parametrize("name", ["RPG", "FAIR"])
def test_items_of_the_same_codes_have_the_same_score(name, monkeypatch):
    codes = torch.tensor([[0, 0], [1, 2], [1, 2], [3, 1]]).repeat(10, 1)
    codes[0] = 0
    ids = SemanticIds(codes, 4, {})
    monkeypatch.setattr("recbole_attn.model.rpg.semantic_ids_for", lambda *_: ids)
    scores = build(name).eval().full_sort_predict(batch())
    torch.testing.assert_close(scores[:, 1], scores[:, 2], rtol=0, atol=0)
    assert (scores[:, 1] - scores[:, 3]).abs().min() > 0


@pytest.mark.parametrize("name", ["RPG", "FAIR"])
def test_a_history_has_the_same_scores_alone_as_in_a_batch_of_other_lengths(name):
    model, interaction = build(name).eval(), batch(size=67)
    together = model.full_sort_predict(interaction)
    for row in (0, 7, 66):
        alone = {key: column[row : row + 1] for key, column in interaction.items()}
        torch.testing.assert_close(model.full_sort_predict(alone), together[row : row + 1])


def test_a_range_of_items_is_scored_as_all_of_them():
    model, interaction = build("RPG").eval(), batch()
    state = model.user_state(interaction)
    torch.testing.assert_close(model.score_items(state, 5, 17), model.full_sort_predict(interaction)[:, 5:17])


def test_ranking_many_items_makes_no_tensor_of_all_users_and_items(monkeypatch):
    users, items = 64, 50_000
    draw = torch.Generator().manual_seed(0)
    ids = SemanticIds(torch.randint(256, (items, 16), generator=draw), 256, {})
    monkeypatch.setattr("recbole_attn.model.rpg.semantic_ids_for", lambda *_: ids)
    monkeypatch.setattr("test_models.N_ITEMS", items)
    model, interaction = build("RPG").eval(), batch(size=users)
    with Largest() as seen, torch.no_grad():
        best = Scores(model.score_items, model.user_state(interaction), items, None).top_k(10)
    assert seen.numbers <= ids.codes.numel() < users * items  # the codes of all items, which the model holds
    assert torch.equal(best.scores, model.full_sort_predict(interaction)[:, 1:].topk(10).values)


def test_a_checkpoint_is_read_without_making_codes_again(tmp_path, capsys, monkeypatch):
    write_chains(tmp_path)
    checkpoint, _ = train(tmp_path, capsys, model="FAIR", dataset="chains", epochs=1, training="sequence")
    before = Recommender(checkpoint).recommend({"a": ["i3", "i4"]}, 5)

    monkeypatch.setattr("recbole_attn.model.semantic._read_or_make", lambda *_: pytest.fail("made again"))
    assert Recommender(checkpoint).recommend({"a": ["i3", "i4"]}, 5) == before


def test_an_item_without_interactions_is_recommended_where_the_item_file_numbers_it(tmp_path, capsys):
    write_chains(tmp_path)
    titles = [(f"i{n}", f"kind{n % 5} part{n % 4}") for n in range(22)]  # no history holds the last two
    write(tmp_path, [("item_id:token", "title:token_seq"), *titles], name="chains", suffix="item")
    settings = {"model": "FAIR", "dataset": "chains", "epochs": 1, "item_vectors": "text", "load_col.item": "[item_id]"}
    checkpoint, _ = train(tmp_path, capsys, **settings)
    found = Recommender(checkpoint).recommend({"anna": ["i3", "i4"]}, 22)["anna"]
    assert {one.item for one in found} == {item for item, _ in titles}


def test_the_three_losses_stand_in_the_training_log(tmp_path, caplog):
    write_chains(tmp_path)
    with caplog.at_level(logging.INFO):
        assert main(command(tmp_path, model="FAIR", dataset="chains", epochs=1, state="INFO")) == 0
    assert all(f"train_loss{part}" in caplog.text for part in (1, 2, 3))


def test_a_table_that_lacks_items_is_refused(monkeypatch):
    monkeypatch.setattr("recbole_attn.model.rpg.semantic_ids_for", lambda *_: SemanticIds(torch.zeros(5, 2), 4, {}))
    with pytest.raises(ValueError, match="semantic ids must have 40 rows, padding's first, not 5"):
        build("RPG")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": -0.1}, "alpha must be at least 0, not -0.1"),
        ({"beta": -1}, "beta must be at least 0, not -1"),
        ({"margin": -1}, "margin must be at least 0, not -1"),
        ({"mask_rate": 1.0}, r"mask_rate must lie in \[0, 1\), not 1.0"),
        ({"replace_rate": -0.1}, r"replace_rate must lie in \[0, 1\), not -0.1"),
        ({"mask_rate": 0.5, "replace_rate": 0.75}, "mask_rate and replace_rate must be at most 1 together, not 1.25"),
        ({"temperature": 0.0}, "temperature must be greater than 0, not 0.0"),
        ({"info_temperature": 0.0}, "info_temperature must be greater than 0, not 0.0"),
        ({"noise_loss": "mse"}, "noise_loss must be one of triplet, cosine, not 'mse'"),
        ({"norm": "rms"}, "norm must be one of output, positive, none, not 'rms'"),
        ({"lambda_init": 1.0}, r"lambda_init must lie in \[0, 1\), not 1.0"),
        ({"loss_type": "BPR"}, "loss_type must be CE, not 'BPR'"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        build("FAIR", **changes)
