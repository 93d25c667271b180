"""The BERT4Rec backbone: RecBole's scores and loss where RecBole is right, and what is mended."""

import pytest
import torch
from recbole.model.sequential_recommender import BERT4Rec
from test_models import N_ITEMS, Catalogue, batch, build, copy_layers, settings

CALM = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "initializer_range": 0.2}


def theirs_for(length, **changes):
    """RecBole's BERT4Rec for our histories of at most `length`: its own drop the first item to append the mask."""
    names = {"MASK_ITEM_SEQ": "masked", "POS_ITEMS": "asked", "NEG_ITEMS": "negatives", "MASK_INDEX": "places"}
    return BERT4Rec(settings("AttnBERT4Rec", **CALM, **names, **changes, MAX_ITEM_LIST_LENGTH=length + 1), Catalogue())


def copied(length, **changes):
    ours, theirs = build("AttnBERT4Rec", **CALM, **changes, MAX_ITEM_LIST_LENGTH=length), theirs_for(length, **changes)
    with torch.no_grad():
        theirs.output_bias.normal_()
        ours.item_bias.copy_(theirs.output_bias)
    pairs = [
        (ours.item_embedding, theirs.item_embedding),
        (ours.position_embedding, theirs.position_embedding),
        (ours.input_norm, theirs.LayerNorm),
        (ours.head, theirs.output_ffn),
        (ours.head_norm, theirs.output_ln),
    ]
    copy_layers(ours, theirs, pairs)
    return ours, theirs


def with_dropped_item(interaction):
    """The same histories with an item in front, which RecBole drops."""
    front = torch.ones(len(interaction["length"]), 1, dtype=torch.long)
    seq = torch.cat([front, interaction["item_list"]], 1)
    return {**interaction, "item_list": seq, "length": interaction["length"] + 1}


def appended(interaction):
    """Histories with their targets, as they are trained on."""
    seq = torch.nn.functional.pad(interaction["item_list"], (0, 1))
    return seq.scatter(1, interaction["length"][:, None], interaction["item"][:, None])


@pytest.mark.parametrize("length", [1, 2, 10, 50])
@pytest.mark.parametrize("sizes", [{}, {"n_layers": 3, "n_heads": 4, "hidden_act": "relu"}])
def test_with_copied_weights_the_scores_are_recboles(length, sizes):
    ours, theirs = copied(length, **sizes)
    interaction = batch(length)
    for method in ("predict", "full_sort_predict"):
        torch.testing.assert_close(
            getattr(ours, method)(interaction),
            getattr(theirs, method)(with_dropped_item(interaction)),
            rtol=1e-5,
            atol=1e-5,
        )


def both_losses(masks, interaction):
    """Our loss and RecBole's on the same masks, each of which has one item a history."""
    ours, theirs = copied(10)
    ours.draw_masks = lambda item_seq: masks
    seq, places = appended(interaction), masks.int().argmax(1, keepdim=True)
    given = {"masked": seq.masked_fill(masks, N_ITEMS), "asked": seq.gather(1, places), "places": places}
    return ours, ours.calculate_loss(interaction), theirs.calculate_loss({**given, "negatives": places})


def test_the_loss_is_recboles_where_no_first_item_is_masked():
    interaction = batch(10)
    masks = torch.arange(11) == interaction["length"][:, None]
    _, mine, other = both_losses(masks, interaction)
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_a_masked_first_item_counts():
    interaction = batch(10)
    masks = torch.arange(11) == interaction["length"][:, None]
    masks[:8] = torch.arange(11) == 0
    model, mine, other = both_losses(masks, interaction)
    assert not torch.isclose(mine, other)
    alone = {name: values[:8] for name, values in interaction.items()}
    model.draw_masks = lambda item_seq: masks[:8]
    rest = {name: values[8:] for name, values in interaction.items()}
    first = model.calculate_loss(alone)
    model.draw_masks = lambda item_seq: masks[8:]
    torch.testing.assert_close(mine, (first + model.calculate_loss(rest)) / 2)


def test_every_masked_item_of_a_long_history_counts():
    model, interaction = build("AttnBERT4Rec", **CALM), batch(10)
    seq = appended(interaction)
    masks = seq != 0
    cloze = model.cloze(seq, masks)
    assert len(cloze.targets) == int(masks.sum())
    torch.testing.assert_close(cloze.targets, seq[masks])
    assert set(cloze.item_seq.unique().tolist()) <= {0, model.mask_token}


def test_the_appended_mask_has_a_position_of_its_own():
    model, interaction = build("AttnBERT4Rec", **CALM).eval(), batch(10)
    before = model.full_sort_predict(interaction)
    with torch.no_grad():
        model.position_embedding.weight[10] += torch.linspace(-1, 1, 64)
    changed = (model.full_sort_predict(interaction) - before).abs().amax(1) > 1e-4
    assert torch.equal(changed, interaction["length"] == 10)


def test_masks_cover_items_only_and_at_least_one():
    model = build("AttnBERT4Rec", mask_ratio=0.3, ft_ratio=0.0, MAX_ITEM_LIST_LENGTH=50)
    seq = appended(batch(50, size=2000))
    masks = model.draw_masks(seq)
    assert not (masks & (seq == 0)).any()
    assert masks.any(1).all()
    long = (seq != 0).sum(1) > 25
    assert abs(masks[long].sum() / (seq[long] != 0).sum() - 0.3) < 0.01
    short = (seq != 0).sum(1) == 2
    assert abs(masks[short, 0].float().mean() - 0.5) < 0.3


def test_the_share_of_histories_where_only_the_last_item_is_masked():
    seq = appended(batch(50, size=4000))
    last = torch.arange(51) == (seq != 0).sum(1, keepdim=True) - 1
    for share in (0.0, 0.5, 1.0):
        model = build("AttnBERT4Rec", mask_ratio=0.5, ft_ratio=share, MAX_ITEM_LIST_LENGTH=50)
        only_last = (model.draw_masks(seq) == last).all(1)[(seq != 0).sum(1) > 20]
        assert abs(only_last.float().mean() - share) < 0.03


def test_a_history_that_reads_fewer_places_than_others_counts_with_its_own_only():
    model, interaction = build("AttnBERT4Rec", **CALM), batch(10)
    masks = model.draw_masks(appended(interaction))
    cloze = model.cloze(appended(interaction), masks)
    assert cloze.counts.sum() == masks.sum() == len(cloze.targets)
    model.draw_masks = lambda item_seq: masks
    together = model.calculate_loss(interaction)
    total = 0.0
    for row in range(16):
        model.draw_masks = lambda item_seq, row=row: masks[row : row + 1]
        alone = {name: values[row : row + 1] for name, values in interaction.items()}
        total = total + model.calculate_loss(alone) * masks[row].sum()
    torch.testing.assert_close(together, total / masks.sum())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_type": "BPR"}, "loss_type must be CE, not 'BPR'"),
        ({"mask_ratio": 0.0}, r"mask_ratio must lie in \(0, 1\), not 0.0"),
        ({"mask_ratio": 1.0}, r"mask_ratio must lie in \(0, 1\), not 1.0"),
        ({"ft_ratio": 1.5}, r"ft_ratio must lie in \[0, 1\], not 1.5"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        build("AttnBERT4Rec", **changes)
