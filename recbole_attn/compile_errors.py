"""What `torch.compile` raises while it trains: its compiler is found, but fails."""

from __future__ import annotations

_PARTS = ("torch._dynamo", "torch._inductor")


def is_of_compiler(error: BaseException) -> bool:
    """Does this come out of the compiler? Told by where its class stands, which need not be imported for that."""
    return any(kind.__module__.startswith(_PARTS) for kind in type(error).__mro__)


def could_not_compile(error: BaseException) -> str:
    """One line on it, of what may be pages: commands and what they printed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    what = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])  # "backend='inductor' raised:", then what
    reason = f"{type(error).__name__}: {what}".rstrip(": ")
    return f"compile = True: torch could not compile the model ({reason}); use --compile=False"
