"""Small data sets for tests, and RecBole configurations that read them."""

from __future__ import annotations

import numpy as np
from recbole.config import Config

FULL = {"group_by": "user", "order": "TO", "mode": "full"}


def config(folder=None, model="SASRec", dataset="tiny", *, split=None, eval_args=None, **settings):
    """A RecBole Config."""
    values = {
        "data_path": str(folder),
        "train_neg_sample_args": None,
        "eval_args": {**FULL, "split": split or {"LS": "valid_and_test"}, **(eval_args or {})},
        "gpu_id": "",  # on the CPU
        "load_col": None,
        "MAX_ITEM_LIST_LENGTH": 7,
        "train_batch_size": 64,
        "eval_batch_size": 32,
        "show_progress": False,
        "checkpoint_dir": str(folder) + "/saved",
        **settings,
    }
    return Config(model=model, dataset=dataset, config_dict=values)


def write(folder, rows, name="tiny", suffix="inter"):
    """Write an atomic file from its rows; the first is the header."""
    (folder / name).mkdir(exist_ok=True)
    path = folder / name / f"{name}.{suffix}"
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


def write_tiny(folder, users=40, items=30, seed=0):
    """Histories of 1 to 25 items with ties in time, three extra columns, and features of users and items."""
    draw = np.random.default_rng(seed)
    rows = [
        (f"u{user:02}", f"i{draw.integers(items)}", draw.integers(50) * 10 + 1_000_000_000, round(draw.random(), 3),
         f"c{draw.integers(4)}", " ".join(f"t{tag}" for tag in draw.integers(9, size=draw.integers(4))))
        for user in range(users)
        for _ in range(draw.integers(1, 26))
    ]  # fmt: skip
    draw.shuffle(rows)
    header = ("user_id:token", "item_id:token", "timestamp:float", "rating:float", "device:token", "tags:token_seq")
    write(folder, [header, *rows])
    ages = [(f"u{user:02}", draw.integers(9, 90)) for user in range(0, users + 3)]
    write(folder, [("user_id:token", "age:token"), *ages], suffix="user")
    genres = [(f"i{item}", round(draw.random(), 4), f"g{item % 3} g{item % 5}") for item in range(1, items)]
    write(folder, [("item_id:token", "price:float", "genre:token_seq"), *genres], suffix="item")
