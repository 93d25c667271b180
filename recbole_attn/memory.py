"""Keep freed memory instead of giving it back to the operating system after every tensor."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of malloc.h


def keep_freed_memory() -> bool:
    """Make glibc serve large tensors from its heap, for the rest of the process.

    By default it maps fresh pages for each tensor of more than some megabytes, and the operating system zeroes them
    all, which an element-wise operation on a CPU pays for each time. Numbers do not change.

    Returns:
        False where the C library is not glibc; nothing was changed then.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(
        mallopt(name, value) for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 1 << 26))
    )
