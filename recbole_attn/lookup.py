"""Sums of looked-up numbers for few states, by a loop that numba compiles where it is installed (`.[lookup]`).

`embedding_bag` adds rows of eight numbers with vector instructions and takes as long for rows of one. See
benchmarks/code_scoring.py for what the loop saves.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from logging import getLogger

import torch
from torch import Tensor
from torch.nn.functional import pad

_ITEMS = 4096  # in one go, whose codes and sums a cache holds
_WORD = 8  # codes of one byte that are read at one time


@cache
def has_numba() -> bool:
    """Whether numba is installed and can be imported; one that cannot is logged."""
    if find_spec("numba") is None:
        return False
    try:
        import numba  # noqa: F401
    except Exception as error:  # it refuses a NumPy that is newer than itself, in one way or another
        reason = " ".join(str(error).split()) or type(error).__name__
        getLogger().warning(f"numba cannot be imported ({reason}): a few users at a time are scored without it")
        return False
    return True


def can_add_up(tables: Tensor, codes: Tensor) -> bool:
    """Whether `add_up` takes these: on the CPU, of a size that NumPy knows, no gradient asked for, and numba there."""
    known = codes.dtype == torch.uint8 and tables.dtype in (torch.float32, torch.float64)
    recorded = tables.requires_grad and torch.is_grad_enabled()
    return known and tables.device.type == "cpu" and not recorded and has_numba()


def add_up(tables: Tensor, codes: Tensor) -> Tensor:
    """Σ_k tables[b, k, codes[i, k]]: tables (B, K, V), codes (n, K) of one byte → (B, n)."""
    spare = -codes.size(1) % _WORD
    if spare:  # `pad` copies even if there is nothing to add
        codes, tables = pad(codes, (0, spare)), pad(tables, (0, 0, 0, spare))
    words = codes.contiguous().numpy().view("uint64")
    numbers = tables.contiguous().detach().numpy()
    sums = torch.empty(len(tables), len(codes), dtype=tables.dtype)
    _compiled(numbers.shape[-1])(numbers.reshape(len(numbers), -1), words, sums.numpy())
    return sums


@cache
def _compiled(n_values: int):
    """The loop over tables (B, K·V), V = n_values, codes (n, K/8), eight in a word, and the sums (B, n) that it writes.

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
