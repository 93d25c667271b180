import pytest
import torch

from recbole_attn.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_a_share_p_is_dropped_and_the_mean_is_kept(p):
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1_000_001))
    dropped = (out == 0).double().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / 1e6) ** 0.5 + 1e-5
    assert abs(out.double().mean().item() - 1) < 0.01
    assert out.unique().numel() == 2


def test_neighbouring_elements_and_calls_are_dropped_independently():
    torch.manual_seed(0)
    dropout = Dropout(0.5)
    first, second = ((dropout(torch.ones(1 << 20)) > 0).double() - 0.5 for _ in range(2))
    for shift in (1, 2, 3, 4, 64):
        assert abs((first[shift:] * first[:-shift]).mean()) < 0.002
    assert abs((first * second).mean()) < 0.002


def test_the_seed_reproduces_it_and_the_random_state_continues_it():
    dropout, x = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(3)
    first, state, second = dropout(x), torch.get_rng_state(), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x), second)
    assert not torch.equal(first, second)


def test_the_gradient_is_the_mask():
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), out.detach())


def test_nothing_is_dropped_in_evaluation_or_at_zero():
    x = torch.randn(10)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_a_probability_outside_its_range_is_refused(p):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        Dropout(p)
