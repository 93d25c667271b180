"""The objectives that compare states equal loops, in value and in gradient."""

import math

import pytest
import torch

from recbole_attn.contrastive import cosine_loss, info_nce, noise_loss, triplet_loss


def vectors(n=3, seed=0, rows=6):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(n)]


def unit(vector):
    return vector / torch.sqrt(sum(cell * cell for cell in vector))


def distance(one, other):
    return sum((a - b) ** 2 for a, b in zip(unit(one), unit(other)))


def loop_triplet(states, noisy, others, margin):
    gaps = [distance(h, n) - distance(h, o) + margin for h, n, o in zip(states, noisy, others)]
    return sum(gap for gap in gaps if gap > 0) / len(gaps)


def loop_cosine(states, noisy):
    return sum(1 - unit(h) @ unit(n) for h, n in zip(states, noisy)) / len(states)


def loop_info_nce(states, items, targets, temperature):
    total = 0
    for i in range(len(states)):
        seen = [j for j in range(len(states)) if j == i or targets[j] != targets[i]]
        chances = {j: torch.exp(unit(states[i]) @ unit(items[j]) / temperature) for j in seen}
        total = total - torch.log(chances[i] / sum(chances.values()))
    return total / len(states)


TARGETS = torch.tensor([3, 5, 3, 9, 9, 3])
CASES = {
    "triplet": (3, lambda *v: triplet_loss(*v, margin=0.5), lambda *v: loop_triplet(*v, margin=0.5)),
    "cosine": (2, cosine_loss, loop_cosine),
    "InfoNCE": (2, lambda *v: info_nce(*v, TARGETS, 0.3), lambda *v: loop_info_nce(*v, TARGETS, 0.3)),
}


@pytest.mark.parametrize(("n", "fast", "slow"), CASES.values(), ids=CASES)
def test_an_objective_equals_its_loops_in_value_and_gradient(n, fast, slow):
    leaves = vectors(n)
    ours, theirs = fast(*leaves), slow(*leaves)
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)):
        torch.testing.assert_close(mine, other)
    assert torch.autograd.gradcheck(fast, leaves)


def test_a_triplet_compares_with_states_of_other_users_only():
    """Users 1 and 2 point in opposite directions: another user's state is as far away as can be."""
    users = torch.tensor([1, 1, 2, 1, 2, 1])
    states = torch.where(users[:, None] == 1, 1.0, -1.0) * torch.ones(6, 4)
    for seed in range(20):
        torch.manual_seed(seed)
        assert noise_loss("triplet", states, states, users, margin=3.9) == 0


def test_a_batch_of_one_user_has_no_triplet():
    (states,) = vectors(1)
    loss = noise_loss("triplet", states, states.detach() + 1, torch.ones(6), margin=1.0)
    loss.backward()
    assert loss == 0
    assert states.grad.abs().max() == 0


def test_rows_of_the_same_target_are_no_negatives_of_each_other():
    states, items = vectors(2)
    assert info_nce(states, items, torch.full((6,), 3), 0.1) == 0
    alike = torch.ones(6, 4, dtype=torch.float64)
    torch.testing.assert_close(info_nce(alike, alike, torch.arange(6), 0.1).item(), math.log(6))
