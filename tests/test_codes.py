"""Items of several codes: vectors, loss and scores equal loops; noise does what its rates say."""

import pytest
import reference_codes
import torch

from recbole_attn import codes as module
from recbole_attn import lookup
from recbole_attn.codes import CodedItems


def make(items=7, n_codes=3, n_values=4, hidden_size=5, temperature=0.2):
    torch.manual_seed(2)
    codes = torch.randint(n_values, (items, n_codes))
    codes[0] = 0
    return CodedItems(codes, n_values=n_values, hidden_size=hidden_size, temperature=temperature).double()


def states(rows=3):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)


def agree(ours, theirs, leaves):
    torch.testing.assert_close(ours, theirs)
    inner = torch.randn_like(ours)
    for mine, other in zip(*(torch.autograd.grad((each * inner).sum(), leaves) for each in (ours, theirs))):
        torch.testing.assert_close(mine, other)


def test_an_items_vector_is_the_mean_of_its_codes_and_paddings_is_zero():
    coded, items = make(), torch.tensor([[1, 5, 1], [6, 0, 0]])
    expected = torch.stack([reference_codes.vector(coded, int(i)) for i in items.flatten()]).view(2, 3, 5)
    agree(coded(items), expected, [coded.embedding.weight])
    assert coded(items)[1, 1:].abs().max() == 0


def test_the_loss_is_that_of_each_code_and_its_gradient_too():
    coded, h, items = make(), states(), torch.tensor([2, 6, 2])
    agree(coded.loss(h, items), reference_codes.loss(coded, h, items), [h, *coded.parameters()])


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize(("rows", "items"), [(1, 7), (3, 7), (9, 7), (5, 23)])
def test_scores_are_the_mean_log_probabilities_of_the_codes_in_any_chunks(rows, items, numba, monkeypatch):
    if numba:
        pytest.importorskip("numba")
    monkeypatch.setattr(lookup, "has_numba", lambda: numba)
    monkeypatch.setattr(module, "_STATES", 4)
    monkeypatch.setattr(module, "_ITEMS", 5)
    coded, h = make(items), states(rows).detach()
    every = coded.score(coded.tabulate(h), 0, items)
    chances = [[reference_codes.log_chances(coded, state, k) for k in range(3)] for state in h]
    expected = [[sum(of[k][int(c)] for k, c in enumerate(row)) / 3 for row in coded.codes] for of in chances]
    torch.testing.assert_close(every, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(coded.score(coded.tabulate(h), 2, 6), every[:, 2:6])
    chosen = torch.arange(rows) % items
    torch.testing.assert_close(coded.score_one(h, chosen), every.gather(1, chosen[:, None])[:, 0])


def test_without_noise_perturbed_items_are_what_they_are_and_padding_stays_zero():
    coded, items = make(), torch.tensor([[1, 5, 1], [6, 0, 0]])
    torch.testing.assert_close(coded.perturbed(items, 0.0, 0.0), coded(items))
    assert coded.perturbed(items, 0.3, 0.3)[1, 1:].abs().max() == 0


def test_masked_codes_are_left_out_of_the_mean_and_replaced_ones_are_other_codes():
    coded, items = make(n_codes=8), torch.ones(1, 4000, dtype=torch.long)
    with torch.no_grad():  # the own codes of item 1 say 1, all others 3
        coded.embedding.weight.fill_(3.0)
        coded.embedding.weight[coded._tokens(coded.codes[1:2]).flatten()] = 1.0
    masked = coded.perturbed(items, 0.5, 0.0)[0, :, 0]
    kept = masked[masked != 0]  # an item that loses all codes is 0
    torch.testing.assert_close(kept, torch.ones_like(kept))
    replaced = coded.perturbed(items, 0.0, 0.4)[0, :, 0].mean().item()
    assert replaced == pytest.approx(1 + 2 * 0.4 * 3 / 4, abs=0.03)  # one of four draws is the code that was there


def test_gradients_of_perturbed_items_agree_with_finite_differences():
    coded, items = make(), torch.tensor([[1, 5, 1], [6, 0, 0]])

    def perturb(weight):
        torch.manual_seed(5)
        inputs = (items, 0.3, 0.3)
        return torch.func.functional_call(Perturb(coded), {"coded.embedding.weight": weight}, inputs)

    assert torch.autograd.gradcheck(perturb, coded.embedding.weight.detach().clone().requires_grad_())


class Perturb(torch.nn.Module):
    def __init__(self, coded):
        super().__init__()
        self.coded = coded

    def forward(self, *inputs):
        return self.coded.perturbed(*inputs)


@pytest.mark.parametrize(
    ("codes", "temperature", "message"),
    [
        (torch.zeros(4, 2), 0.0, "temperature must be greater than 0, not 0.0"),
        (torch.zeros(4), 0.1, r"semantic ids must be a table of items by codes, not of shape \(4,\)"),
        (torch.full((4, 2), 9), 0.1, r"semantic ids must lie in \[0, 4\), not in \[9, 9\]"),
    ],
)
def test_a_bad_table_or_temperature_is_refused_in_one_line(codes, temperature, message):
    with pytest.raises(ValueError, match=message):
        CodedItems(codes, n_values=4, hidden_size=5, temperature=temperature)
