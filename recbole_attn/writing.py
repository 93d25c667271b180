"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once it is written: a reader finds the old content or the new one.

    One process at a time may write to a path. What one that was killed left behind is written over by the next.
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text, in UTF-8, or bytes.

    Raises:
        OSError: the disk is full, the folder read-only ...; what lay at `path` before is still there.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
