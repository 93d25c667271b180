"""Main memory: keep what is freed instead of giving it back after every tensor, and tell how much was held."""

from __future__ import annotations

import ctypes
import platform
import resource
import sys
from pathlib import Path

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of malloc.h


def keep_freed_memory() -> bool:
    """Make glibc serve large tensors from its heap, for the rest of the process.

    By default it maps fresh pages for each tensor of more than some megabytes, and the operating system zeroes them
    all, which an element-wise operation on a CPU pays for each time. Numbers do not change. A loop whose large
    tensors are freed while small results of it stay should write these into one tensor made before: the gap between
    two of them is too small for the next large one, which is aligned, and memory grows with every turn.

    Returns:
        False where the C library is not glibc; nothing was changed then.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(
        mallopt(name, value) for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 1 << 26))
    )


def peak_resident() -> int:
    """Most bytes of main memory that this program has held.

    On Linux not `getrusage`'s, which also counts what the process was before it became this program: a copy of the one
    that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
