"""Every mechanism in every variant, for the tests that hold for all of them."""

import reference
import reference_calibrated
import reference_focused
import reference_stochastic
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_attn.attention import Adversary, Calibrated, Focused, Refined, Refinement, Softmax, Spatial, Stochastic

SIZES = {"hidden_size": 8, "n_heads": 2, "dropout": 0.0}


REFINING = {"max_length": 9, "scale": "learned", "scale_init": 10.0, "index": "start", "mix": 0.3}


def _refined(refinement="simple", **changes):
    return Refined(**SIZES, refinement=refinement, **{**REFINING, **changes})


def stochastic(refinement=None, **changes):
    """Wasserstein attention of hidden size 4, whose inputs are 8 wide: means and covariances."""
    sizes = {**SIZES, "hidden_size": 4}
    if refinement is None:
        return Stochastic(**sizes, refinement=None)
    refined = Refinement(n_heads=2, refinement=refinement, **{**REFINING, **changes})
    return Stochastic(**sizes, refinement=refined)


CLEAN = {"renorm": "divide", "noise": "attention", "keep_mask": "sigmoid", "penalty": "rms"}
RELEASED = {"renorm": "softmax", "noise": "gaussian", "keep_mask": "softmax", "penalty": "frobenius"}


def calibrated(preset=CLEAN, order=True, distance=True, adversarial=True, max_length=9, **changes):
    """Calibrated attention without dropout."""
    sizes = {name: SIZES[name] for name in ("hidden_size", "n_heads")}
    settings = {"combine": "gate", "gate": "learned", "gate_width": max_length, "attacks": True}
    settings["dropout_on"] = "weights" if preset is CLEAN else "maps"
    return Calibrated(
        **SIZES,
        spatial=Spatial(head_size=4, use_order=order, use_distance=distance),
        adversary=Adversary(**sizes, **preset, keep_start=0.7) if adversarial else None,
        renorm=preset["renorm"],
        **{**settings, **changes},
    )


def annealed(preset=CLEAN):
    """Calibrated attention after so many steps of annealing that map and calibration both count."""
    mechanism = calibrated(preset, combine="annealing")
    mechanism.step += 30_000
    return mechanism


def focused(norm="none"):
    """Focused attention without dropout."""
    return Focused(**SIZES, norm=norm, lambda_init=0.5)


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
    "calibrated": (calibrated, reference_calibrated.weights),
    "calibrated, released": (lambda: calibrated(RELEASED), reference_calibrated.weights),
    "calibrated by order": (lambda: calibrated(distance=False, adversarial=False), reference_calibrated.weights),
    "calibrated by distance": (lambda: calibrated(order=False, adversarial=False), reference_calibrated.weights),
    "calibrated by attack": (lambda: calibrated(order=False, distance=False), reference_calibrated.weights),
    "calibrated, fixed": (lambda: calibrated(combine="fixed"), reference_calibrated.weights),
    "calibrated, annealing": (annealed, reference_calibrated.weights),
    "calibrated, released, fixed": (lambda: calibrated(RELEASED, combine="fixed"), reference_calibrated.weights),
    "calibrated, released, annealing": (lambda: annealed(RELEASED), reference_calibrated.weights),
    "calibrated, half": (lambda: calibrated(RELEASED, gate=0.5), reference_calibrated.weights),
    "focused": (focused, reference_focused.weights),
    "focused, positive": (lambda: focused("positive"), reference_focused.weights),
    "focused, normed output": (lambda: focused("output"), reference_focused.weights),
    "stochastic": (stochastic, reference_stochastic.weights),
    "stochastic, simple": (lambda: stochastic("simple"), reference_stochastic.weights),
    "stochastic, value": (lambda: stochastic("value"), reference_stochastic.weights),
    "stochastic, value_map": (lambda: stochastic("value_map"), reference_stochastic.weights),
    "stochastic, bahdanau": (lambda: stochastic("bahdanau"), reference_stochastic.weights),
    "stochastic, additive": (lambda: stochastic("additive", mix="learned"), reference_stochastic.weights),
    "stochastic, stochastic": (lambda: stochastic("stochastic"), reference_stochastic.weights),
    "stochastic, stochastic, recent": (lambda: stochastic("stochastic", index="recent"), reference_stochastic.weights),
}


def make(name):
    """The named mechanism in float64 with weights large enough that its maps are far from uniform."""
    torch.manual_seed(1)
    return far_from_uniform(MECHANISMS[name][0]())


def far_from_uniform(mechanism):
    """In float64, with weights that are not small."""
    mechanism = mechanism.double()
    with torch.no_grad():
        for parameter in mechanism.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mechanism


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that is made, and the shapes of all."""

    def __init__(self):
        super().__init__()
        self.numbers, self.shapes = 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.shapes.add(out.shape)
            self.numbers = max(self.numbers, out.untyped_storage().nbytes() // out.element_size())
        return out
