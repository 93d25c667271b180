"""RecBole 1.2.1 on today's Python stack: each fault, and the smallest thing that mends it.

`apply()` runs once, when `recbole_attn` is imported and before RecBole is. A remedy acts only where its fault is
present, so that an older stack stays as it was. `tests/test_remedies.py` takes the remedies away one at a time and
fails as soon as RecBole does without.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import sys
import types
import warnings

import numpy
import pandas
import scipy.sparse
import torch

_MENDED = "_mended_for_recbole"
_NUMPY_NAMES = {
    "float_": numpy.float64,
    "complex_": numpy.complex128,
    "unicode_": numpy.str_,
    "float": numpy.float64,
    "complex": numpy.complex128,
    "int": numpy.int_,
    "bool": numpy.bool_,
    "object": numpy.object_,
    "str": numpy.str_,
    "unicode": numpy.str_,
}


def apply() -> None:
    """Apply every remedy that this stack needs, then import RecBole's sequential models. Safe to call again."""
    refuse_pandas_3()
    restore_numpy_names()
    restore_update_of_dok_matrices()
    stand_in_for_ray()
    let_recbole_load_checkpoints()
    import_recbole_models()


def refuse_pandas_3() -> None:
    """pandas 3 leaves NaN in place where `Dataset._fill_nan` assigns in a chain, and RecBole notices nothing.

    Raises:
        ImportError: with pandas 3 or newer. There is no remedy; wrong data must not be trained on.
    """
    if int(pandas.__version__.split(".")[0]) >= 3:
        raise ImportError(
            f"recbole 1.2.1 silently keeps missing values under pandas {pandas.__version__}: pip install 'pandas<3'"
        )


def restore_numpy_names() -> None:
    """NumPy 2 removed the scalar aliases that `Config.compatibility_settings` and the metrics look up."""
    for name, scalar in _NUMPY_NAMES.items():
        if name not in vars(numpy):
            setattr(numpy, name, scalar)


def restore_update_of_dok_matrices() -> None:
    """Newer SciPy lacks the method by which RecBole's graph models, such as LightGCN, fill their matrices."""
    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = lambda self, values: self._dict.update(values)


def stand_in_for_ray() -> None:
    """`recbole.quick_start` imports `ray.tune`, whose only release it admits fails on setuptools 82 and NumPy 2.

    RecBole needs nothing but `tune.report`, and that only inside a Ray trial, which cannot exist without ray.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ray's own, about setuptools
            importlib.import_module("ray.tune")
    except Exception:  # ray fails in many ways: ImportError, AttributeError, TypeError ...
        tune = _stub("ray.tune", report=lambda **metrics: None)
        sys.modules.update({"ray": _stub("ray", tune=tune, __path__=[]), "ray.tune": tune})


def _stub(name: str, **contents) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)  # `find_spec` asks for one
    vars(module).update(contents)
    return module


def let_recbole_load_checkpoints() -> None:
    """torch 2.6 loads weights only by default; RecBole's checkpoints hold its Config and cannot be loaded so.

    Calls that come from RecBole get the old default; every other caller keeps the safe one.
    """
    if hasattr(torch.load, _MENDED):
        return
    original = torch.load

    @functools.wraps(original)
    def load(*args, **kwargs):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.split(".")[0] == "recbole":
            kwargs.setdefault("weights_only", False)
        return original(*args, **kwargs)

    setattr(load, _MENDED, True)
    torch.load = load


def import_recbole_models() -> None:
    """Importing any sequential model imports SINE, which turns autograd's anomaly mode on for the whole process.

    That mode slows every training step. It is left as the user had it.
    """
    mode, check_nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    importlib.import_module("recbole.model.sequential_recommender")
    torch.autograd.set_detect_anomaly(mode, check_nan)
