"""Can these checkpoints be compared, and is this the data they were trained on?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from recbole_attn.errors import UserError
from recbole_attn.matching import check_dataset

SHARED = ("dataset", "MAX_ITEM_LIST_LENGTH", "time_order", "valid_metric", "eval_args")


def require_one_protocol(found: Sequence) -> None:
    """Refuse checkpoints (`Trained`) of different data, or of histories of different length.

    Raises:
        UserError: it names the first two that differ.
    """
    first = found[0]
    for other in found[1:]:
        for name in SHARED:
            ours, theirs = _shown(first.config[name]), _shown(other.config[name])
            if ours != theirs:
                raise UserError(
                    f"{other.path}: trained with {name} = {theirs}, but {first.path} with {ours}; "
                    "only models of the same data and protocol can be compared"
                )
        if first.state.get("id_space", {}) != other.state.get("id_space", {}):
            raise UserError(
                f"{other.path}: trained on other data than {first.path}: its users or items are others, or numbered "
                "otherwise; only models of the same data can be compared"
            )


def _shown(value: Any) -> Any:
    return {key: str(part) for key, part in value.items()} if isinstance(value, dict) else value


def require_data(found: Iterable, dataset) -> None:
    """Compare the data that was read with what every checkpoint (`Trained`) was trained on.

    Raises:
        UserError: they differ.
    """
    for trained in found:
        check_dataset(trained.state, dataset)
