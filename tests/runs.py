"""Small runs through the command line, for tests."""

from __future__ import annotations

import numpy as np
from atomic_files import write

from recbole_attn.cli import main

SMALL = {
    "hidden_size": 16,
    "inner_size": 16,
    "MAX_ITEM_LIST_LENGTH": 8,
    "epochs": 2,
    "hidden_dropout_prob": 0.1,
    "attn_dropout_prob": 0.1,
    "train_batch_size": 64,
    "show_progress": False,
    "use_gpu": False,
    "state": "ERROR",
}
PATIENCE = 1800  # seconds; only a process that hangs takes longer, on the busiest machine
HEADER = ("user_id:token", "item_id:token", "timestamp:float")


def write_chains(folder, users=60, items=20, name="chains"):
    """Every history follows one rule: item n is followed by n + 1, and the last one by the first."""
    draw = np.random.default_rng(0)
    rows = []
    for user in range(users):
        start = draw.integers(items)
        rows += [(f"u{user}", f"i{(start + step) % items}", step) for step in range(draw.integers(6, 14))]
    write(folder, [HEADER, *rows], name=name)


def command(folder, **settings):
    """The arguments of a small run on the data sets in `folder`."""
    values = {**SMALL, "data_path": folder, "checkpoint_dir": folder / "saved", **settings}
    return [f"--{key}={value}" for key, value in values.items()]


def train(folder, capsys, **settings):
    """Run to the end; returns the path of best.pth and what was printed."""
    code = main(command(folder, **settings))
    printed = capsys.readouterr()
    assert code == 0, printed.err
    (line,) = [line for line in printed.out.splitlines() if line.startswith("checkpoint")]
    return line.split()[1], printed.out


def mistake(arguments, capsys):
    """The one line that a wrong command prints; it must exit with code 2 and without a traceback."""
    capsys.readouterr()
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    line = printed.err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in printed.err
    return line
