"""Checkpoints: written whole or not at all, and read with a word on what is wrong with them."""

from __future__ import annotations

import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy
import torch

from recbole_attn.errors import UserError
from recbole_attn.writing import replacing

_ZIP_HEAD = b"PK\x03\x04"


def save_atomically(state: dict, path) -> None:
    """Write `state` beside `path`, then rename: whoever reads `path` finds the old checkpoint or the new one.

    Raises:
        UserError: the disk is full, the folder read-only ...; what lay at `path` before is still there.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(state, file, pickle_protocol=4)
    except (OSError, RuntimeError) as error:
        kept = "the one written before is kept" if os.path.isfile(path) else "none was there before"
        why = _reason(error).strerror
        raise UserError(
            f"cannot write the checkpoint {path}: {why}; {kept}; free some space or make the folder writable"
        ) from error


def _reason(error: BaseException) -> OSError:
    """The OSError behind `error`. An exception inside torch's zip writer leaves it as the context of a RuntimeError.

    Raises:
        BaseException: what it was if it was no OSError, a KeyboardInterrupt for one.
    """
    cause = error
    while not isinstance(cause, (OSError, KeyboardInterrupt)) and cause.__context__ is not None:
        cause = cause.__context__
    if isinstance(cause, OSError):
        return cause
    raise cause if isinstance(cause, KeyboardInterrupt) else error


def load_checkpoint(path, map_location="cpu") -> dict[str, Any]:
    """Read a checkpoint of this program or of RecBole. Reading runs code that the file names: open only your own.

    Returns:
        RecBole's keys (`config`, `state_dict`, ...), and `continuation` where it is a last.pth.

    Raises:
        UserError: no such file, not a checkpoint, or not all of one.
    """
    path = Path(path)
    _look_like_a_checkpoint(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=False)
    except ImportError as error:
        raise UserError(f"checkpoint {path}: needs a module that is not installed here: {error}") from error
    except Exception as error:  # damaged pickles raise whatever their bytes happen to ask for
        raise UserError(f"checkpoint {path}: damaged, or not a checkpoint ({_first_line(error)})") from error
    if not isinstance(checkpoint, dict) or not {"config", "state_dict"} <= checkpoint.keys():
        raise UserError(f"checkpoint {path}: not a checkpoint of RecBole, which holds `config` and `state_dict`")
    return checkpoint


def _look_like_a_checkpoint(path: Path) -> None:
    """Refuse a file by its first and last bytes, before anything in it is unpickled."""
    try:
        with open(path, "rb") as file:
            head = file.read(len(_ZIP_HEAD))
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror}; give the path of a best.pth or last.pth") from error
    if not _ZIP_HEAD.startswith(head):
        raise UserError(f"checkpoint {path}: not a checkpoint; give the path of a best.pth or last.pth")
    if not zipfile.is_zipfile(path):
        raise UserError(f"checkpoint {path}: truncated, its end is missing; use another one or train again")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def random_state() -> dict[str, Any]:
    """The state of every global random generator that RecBole draws from."""
    return {
        "python": random.getstate(),
        "numpy": numpy.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` returned. The states of absent GPUs are left out."""
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, device)
