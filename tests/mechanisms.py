"""Every mechanism in every variant, for the tests that hold for all of them."""

import reference
import torch

from recbole_attn.attention import Refined, Softmax

SIZES = {"hidden_size": 8, "n_heads": 2, "dropout": 0.0}


def _refined(**changes):
    settings = {"refinement": "simple", "scale": "learned", "scale_init": 10.0, "index": "start", "mix": 0.3}
    return Refined(**SIZES, max_length=9, **{**settings, **changes})


MECHANISMS = {
    "softmax": (lambda: Softmax(**SIZES), reference.softmax),
    "simple": (_refined, reference.refined),
    "simple, 1/sqrt(n)": (lambda: _refined(scale="sqrt_n"), reference.refined),
    "value": (lambda: _refined(refinement="value"), reference.refined),
    "value_map": (lambda: _refined(refinement="value_map"), reference.refined),
    "additive": (lambda: _refined(refinement="additive"), reference.refined),
    "additive, learned": (lambda: _refined(refinement="additive", mix="learned"), reference.refined),
    "bahdanau": (lambda: _refined(refinement="bahdanau"), reference.refined),
    "value, recent": (lambda: _refined(refinement="value", index="recent"), reference.refined),
    "value_map, recent": (lambda: _refined(refinement="value_map", index="recent"), reference.refined),
}


def make(name):
    """The named mechanism in float64 with weights large enough that its maps are far from uniform."""
    torch.manual_seed(1)
    mechanism = MECHANISMS[name][0]().double()
    with torch.no_grad():
        for parameter in mechanism.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mechanism
