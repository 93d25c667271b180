"""Sums of looked-up numbers, by loops that numba compiles where it is installed (`.[lookup]`).

Eight states lie side by side, one load and one addition of a vector register for each code of an item; one or two are
added up number by number. See benchmarks/code_scoring.py for what the loops save over `embedding_bag`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from logging import getLogger
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

_ITEMS = 4096  # in one go, whose codes and sums a cache holds
_WORD = 8  # codes of one byte that are read at one time
_SIDE = 8  # states side by side, of which the loop below is written out
_FEW = 2  # states that are faster one by one


@cache
def has_numba() -> bool:
    """Whether numba is installed and can be imported; one that cannot is logged."""
    if find_spec("numba") is None:
        return False
    try:
        import numba  # noqa: F401
    except Exception as error:  # it refuses a NumPy that is newer than itself, in one way or another
        reason = " ".join(str(error).split()) or type(error).__name__
        getLogger().warning(f"numba cannot be imported ({reason}): items are scored by their codes without it")
        return False
    return True


def can_add_up(table: Tensor, codes: Tensor) -> bool:
    """Whether `add_up` takes these: on the CPU, of a size that NumPy knows, no gradient asked for, and numba there."""
    known = codes.dtype == torch.uint8 and table.dtype in (torch.float32, torch.float64)
    recorded = table.requires_grad and torch.is_grad_enabled()
    return known and table.device.type == "cpu" and not recorded and has_numba()


def add_up(table: Tensor, codes: Tensor) -> Tensor:
    """Σ_k table[k·V + codes[i, k], b]: a table (K·V, B), codes (n, K) of one byte → (B, n)."""
    n_values, states = len(table) // codes.size(1), table.size(1)
    add = _one_by_one if states <= _FEW else _side_by_side
    return add(table.detach(), codes.contiguous(), n_values)[:states]


def _one_by_one(table: Tensor, codes: Tensor, n_values: int) -> Tensor:
    sums = table.new_empty(table.size(1), len(codes))
    spare = -codes.size(1) % _WORD
    if spare:  # `pad` copies even if there is nothing to add
        codes, table = pad(codes, (0, spare)), pad(table, (0, 0, 0, spare * n_values))
    _loop_over_words(n_values)(table.T.contiguous().numpy(), codes.numpy().view("uint64"), sums.numpy())
    return sums


def _side_by_side(table: Tensor, codes: Tensor, n_values: int) -> Tensor:
    states = table.size(1)
    sums = table.new_empty(states + -states % _SIDE, len(codes))
    for first in range(0, states, _SIDE):
        columns = pad(table[:, first : first + _SIDE], (0, max(0, first + _SIDE - states))).contiguous()
        with _vectorised():
            _loop_over_eights(n_values)(columns.view(-1).numpy(), codes.numpy(), sums[first : first + _SIDE].numpy())
    return sums


@contextmanager
def _vectorised() -> Iterator[None]:
    """What numba compiles in here has additions side by side in one instruction, which it leaves out by default."""
    import numba

    config: Any = numba.config  # whose names mypy does not find
    before, config.SLP_VECTORIZE = config.SLP_VECTORIZE, 1
    try:
        yield
    finally:
        config.SLP_VECTORIZE = before


@cache
def _loop_over_eights(n_values: int):
    """The loop over a table of rows of eight numbers (K·V·8,), codes (n, K), and the sums (8, n) that it writes.

    Written out, for what numba makes of a loop over eight numbers is no vector instruction.
    """
    from numba import njit, uint64

    @njit
    def row(table, k, code):
        at = uint64(_SIDE) * (uint64(k * n_values) + uint64(code))
        a, b, c, d = table[at], table[at + uint64(1)], table[at + uint64(2)], table[at + uint64(3)]
        e, f, g, h = table[at + uint64(4)], table[at + uint64(5)], table[at + uint64(6)], table[at + uint64(7)]
        return a, b, c, d, e, f, g, h

    @njit(nogil=True)
    def loop(table, codes, sums):
        for i in range(codes.shape[0]):
            a, b, c, d, e, f, g, h = row(table, 0, codes[i, 0])
            for k in range(1, codes.shape[1]):
                p, q, r, s, t, u, v, w = row(table, k, codes[i, k])
                a, b, c, d, e, f, g, h = a + p, b + q, c + r, d + s, e + t, f + u, g + v, h + w
            sums[0, i], sums[1, i], sums[2, i], sums[3, i] = a, b, c, d
            sums[4, i], sums[5, i], sums[6, i], sums[7, i] = e, f, g, h

    return loop


@cache
def _loop_over_words(n_values: int):
    """The loop over tables (B, K·V), codes (n, K/8), eight in a word, and the sums (B, n) that it writes.

    Unsigned numbers spare numba the question whether an index counts from the end; sums in pairs wait for one another
    less than a running sum.
    """
    from numba import njit, uint64

    @njit
    def number(table, word, k):
        return table[uint64(k * n_values) + ((word >> uint64(8 * k)) & uint64(255))]

    @njit
    def pair(table, word, k):
        return number(table, word, k) + number(table, word, k + 1)

    @njit(nogil=True)
    def loop(tables, words, sums):
        for b in range(tables.shape[0]):
            for first in range(uint64(0), uint64(words.shape[0]), uint64(_ITEMS)):
                last = min(first + uint64(_ITEMS), uint64(words.shape[0]))
                sums[b, first:last] = 0
                for w in range(uint64(words.shape[1])):
                    table = tables[b, w * uint64(_WORD * n_values) :]
                    for i in range(first, last):
                        word = words[i, w]
                        half = pair(table, word, 0) + pair(table, word, 2)
                        sums[b, i] += half + (pair(table, word, 4) + pair(table, word, 6))

    return loop
