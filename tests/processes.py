"""Code in a process of its own, forked from one that has imported what is slow and neither RecBole nor this package."""

from __future__ import annotations

import multiprocessing
import textwrap
from types import SimpleNamespace

from runs import PATIENCE

SLOW = ("pandas", "scipy.stats", "sklearn.metrics", "torch._dynamo")
SET_UP = """
import os, sys
os.chdir({folder!r})
sys.argv = ["test"]
for number, name in ((1, "stdout"), (2, "stderr")):
    os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
"""
BARE_PACKAGE = """
import importlib.util, types
package = types.ModuleType("recbole_attn")
package.__path__ = importlib.util.find_spec("recbole_attn").submodule_search_locations
sys.modules["recbole_attn"] = package  # its modules can be reached, and nothing is registered or mended
"""


def in_a_new_process(code, folder):
    """Run `code` in `folder`, where it leaves what it prints. Returns its returncode, stdout and stderr."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(SLOW))
    program = SET_UP.format(folder=str(folder)) + textwrap.dedent(code)
    process = context.Process(target=exec, args=(program, {"__name__": "__main__"}))
    process.start()
    process.join(PATIENCE)
    printed = {name: (folder / name).read_text() for name in ("stdout", "stderr")}
    return SimpleNamespace(returncode=process.exitcode, **printed)
