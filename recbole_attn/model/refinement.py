"""The settings of refinement that AWRSR has on every backbone."""

from __future__ import annotations

from typing import Any


def refinement_settings(config, max_length: int) -> dict[str, Any]:
    """Arguments of `Refinement`, but for the number of heads.

    Raises:
        ValueError: two settings that contradict each other.
    """
    if config["index"] == "recent" and config["training"] == "sequence":
        raise ValueError(
            "index=recent counts back from a row's last item, and training=sequence asks for the target of every "
            "item; use index=start or training=prefix"
        )
    names = ("refinement", "scale", "scale_init", "index", "mix")
    return {"max_length": max_length, **{name: config[name] for name in names}}
