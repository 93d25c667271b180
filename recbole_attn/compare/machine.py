"""What a trial ran on, for the record."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from recbole_attn import __version__
from recbole_attn.memory import peak_resident


def machine(config) -> dict[str, Any]:
    """Versions, hardware and commit. None of it is part of a trial's hash."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy", "pandas", "recbole")}
    return {
        "python": platform.python_version(),
        **versions,
        "recbole_attn": __version__,
        "system": platform.platform(terse=True),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if config["device"].type == "cuda" else "cpu",
        "commit": commit(),
    }


def peak_memory() -> int:
    """Most bytes this process has held: on the GPU where it used one, else in main memory."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return peak_resident()


def processor() -> str:
    """Its name; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


@functools.cache
def commit() -> str | None:
    """The commit of this package's checkout, with a + where it was changed; None outside of one."""
    folder = Path(__file__).parent
    try:
        ask = functools.partial(subprocess.run, cwd=folder, capture_output=True, text=True, check=True, timeout=10)
        changed = ask(["git", "status", "--porcelain", "--untracked-files=no", "--", str(folder.parent)]).stdout
        return ask(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip() + ("+" if changed.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None
