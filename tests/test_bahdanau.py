"""Bahdanau's scores of all pairs, made a few at a time."""

import subprocess
import sys

import pytest
import torch

from recbole_attn.attention import bahdanau

B, H, L, N = 3, 2, 5, 7


def make_inputs():
    torch.manual_seed(3)
    sizes = ((B, H, L, N), (B, H, L, N), (H, N))
    return [(2 * torch.randn(size, dtype=torch.float64)).requires_grad_() for size in sizes]


def plain(queries, keys, judge):
    return (judge[:, None, None] * (queries[..., None, :] + keys[:, :, None]).tanh()).sum(-1)


@pytest.mark.parametrize("cells", [1, 70, 1 << 18])
def test_value_and_gradients_are_those_of_the_plain_formula(cells, monkeypatch):
    monkeypatch.setattr(bahdanau, "_CELLS", cells)
    leaves, outer = make_inputs(), torch.randn(B, H, L, L, dtype=torch.float64)
    seen = torch.ones(B, 1, L, L, dtype=torch.bool)
    found, expected = bahdanau.bahdanau_scores(*leaves, seen), plain(*leaves)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(*(torch.autograd.grad((scores * outer).sum(), leaves) for scores in (found, expected))):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_keys_that_no_history_sees_are_left_out():
    leaves = make_inputs()
    seen = torch.zeros(B, 1, L, L, dtype=torch.bool)
    seen[0, 0, 1, 2] = seen[1, 0, 1, 0] = seen[2, 0, 4, 4] = True  # row 1 reaches three keys, row 4 all, others none
    found, expected = bahdanau.bahdanau_scores(*leaves, seen), plain(*leaves)
    reached = torch.zeros(L, L, dtype=torch.bool)
    reached[1, :3] = reached[4] = True
    torch.testing.assert_close(found, expected * reached, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(*(torch.autograd.grad((s * reached).sum(), leaves) for s in (found, expected))):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_single_rows_of_each_history_are_held_against_all_keys():
    queries, keys, judge = make_inputs()
    found = bahdanau.bahdanau_scores(queries[:, :, 2:3], keys, judge, torch.ones(B, 1, 1, L, dtype=torch.bool))
    torch.testing.assert_close(found, plain(queries, keys, judge)[:, :, 2:3], rtol=1e-10, atol=1e-12)


HELD = """
import torch
from recbole_attn.attention.bahdanau import bahdanau_scores
from recbole_attn.memory import keep_freed_memory, peak_resident
keep_freed_memory()
torch.set_num_threads(1)
maps = torch.randn(32, 4, 100, 100).requires_grad_()
seen, judge = torch.ones(32, 1, 100, 100, dtype=torch.bool), torch.randn(4, 100).requires_grad_()
before = peak_resident()
for _ in range(3):
    bahdanau_scores(maps, maps, judge, seen).sum().backward()
print((peak_resident() - before) / 2**20)
"""


def test_memory_stays_small_where_what_is_freed_is_kept():
    """All values of tanh would take 488 MiB; parts of them, whose gaps nothing fits, have taken gigabytes."""
    printed = subprocess.run([sys.executable, "-c", HELD], check=True, capture_output=True, text=True).stdout
    assert float(printed) < 120
