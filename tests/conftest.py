import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: tensors of this size are slower on several

import pytest

import recbole_attn  # noqa: F401  (before any test imports RecBole)

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def clean_command_line(monkeypatch):
    """RecBole's Config reads sys.argv, pytest's too; live tables are cut to the terminal's width."""
    monkeypatch.setattr(sys, "argv", ["test"])
    monkeypatch.setenv("COLUMNS", "120")
