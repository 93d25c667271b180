"""Focused attention apart from the laws of all mechanisms."""

import pytest
import torch
from mechanisms import SIZES, far_from_uniform
from test_contract import histories, inputs

from recbole_attn.attention import Focused
from recbole_attn.attention.base import split_heads
from recbole_attn.masks import causal_mask, masked_softmax


def make(norm="none", lambda_init=0.5):
    torch.manual_seed(1)
    return far_from_uniform(Focused(**SIZES, norm=norm, lambda_init=lambda_init))


def set_lambdas(mechanism, first, other):
    with torch.no_grad():
        mechanism.theta.copy_(torch.tensor([[first], [other]]).expand(2, 2))


def test_with_the_second_map_off_it_is_plain_softmax():
    mechanism, x, mask = make(), inputs(), causal_mask(histories())
    for other in (0.0, -0.3):  # a negative θ is a λ of 0
        set_lambdas(mechanism, 1.0, other)
        torch.testing.assert_close(mechanism.weigh(x, mask), masked_softmax(mechanism.scores(x), mask))


def test_equal_maps_with_equal_lambdas_cancel():
    mechanism, x, mask = make(), inputs(), causal_mask(histories())
    mechanism.other_query, mechanism.other_key = mechanism.query, mechanism.key
    set_lambdas(mechanism, 0.7, 0.7)
    assert mechanism.weigh(x, mask).abs().max() == 0


def test_lambdas_start_at_one_and_at_lambda_init_in_each_head():
    mechanism = Focused(**SIZES, norm="output", lambda_init=0.8)
    assert mechanism.theta.tolist() == [pytest.approx([1.0, 1.0]), pytest.approx([0.8, 0.8])]


def test_a_row_without_a_positive_weight_reads_nothing_and_has_finite_gradients():
    mechanism, x = make("positive"), inputs().requires_grad_()
    set_lambdas(mechanism, 0.0, 1.0)
    context = mechanism.attend(x, split_heads(x, 2), causal_mask(histories())).context
    context.sum().backward()
    assert context.abs().max() == 0
    assert x.grad.isfinite().all()


def test_a_normed_output_does_not_depend_on_the_size_of_the_map():
    mechanism, x, mask = make("output", 0.2), 10 * inputs(), causal_mask(histories())
    contexts = []
    for size in (1.0, 7.0):
        set_lambdas(mechanism, size, size / 2)
        contexts.append(mechanism.attend(x, split_heads(x, 2), mask).context)
    torch.testing.assert_close(*contexts, rtol=1e-3, atol=1e-3)
    rms = contexts[0].square().mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, 0.8), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "rms"}, "norm must be one of output, positive, none, not 'rms'"),
        ({"lambda_init": 1.0}, r"lambda_init must lie in \[0, 1\), not 1.0"),
        ({"lambda_init": -0.1}, r"lambda_init must lie in \[0, 1\), not -0.1"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Focused(**{**SIZES, "norm": "none", "lambda_init": 0.5, **changes})
