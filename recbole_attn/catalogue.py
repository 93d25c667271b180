"""Items and their numbers, for models that are built without their data."""

from __future__ import annotations

from collections.abc import Sequence


class Catalogue:
    """Items numbered as in training; number 0 is padding. Stands in for the data set when our models are built."""

    def __init__(self, item_field: str, item_ids: Sequence[str]):
        self.item_field, self.item_ids = item_field, item_ids
        self.number = {item: i for i, item in enumerate(item_ids) if i > 0}

    def num(self, field: str) -> int:
        """How many values a field has, padding included; only the item field is known."""
        if field != self.item_field:
            raise KeyError(field)
        return len(self.item_ids)
