"""Semantic ids: what they are, and what they are like."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch


class SemanticIds(NamedTuple):
    """K codes for every item of a catalogue.

    Attributes:
        codes: (N, K) int64 in [0, n_values); row 0, the padding item's, is all 0.
        n_values: how many values a code may have, 2 ** code_bits.
        report: what made them and what they are like, in plain values.
    """

    codes: torch.Tensor
    n_values: int
    report: dict[str, Any]


def with_padding(codes: np.ndarray) -> torch.Tensor:
    """Codes (N - 1, K) of the items → (N, K), the padding item's row of 0 first."""
    return torch.from_numpy(np.concatenate([np.zeros_like(codes[:1]), codes]).astype(np.int64))


def compact(codes: torch.Tensor, n_values: int) -> torch.Tensor:
    """The same codes, in one byte each where that is enough."""
    return codes.to(torch.uint8 if n_values <= 256 else torch.int32)


def collision_rate(codes: np.ndarray) -> float:
    """Share of items (n, K) whose codes another item has too."""
    _, inverse, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float((counts[inverse.reshape(-1)] > 1).mean())


def code_usage(codes: np.ndarray, n_values: int) -> list[float]:
    """For each of the K positions the share of values that some item (n, K) has."""
    return [len(np.unique(column)) / n_values for column in codes.T]


def summary(ids: SemanticIds) -> str:
    """One line on what made the ids and what they are like."""
    report = ids.report
    usage, error = report["code_usage"], report.get("reconstruction_error")
    return (
        f"semantic ids of {len(ids.codes) - 1} items: {ids.codes.size(1)} codes of {ids.n_values} values; "
        f"item_vectors {report.get('item_vectors', 'unknown')}, quantizer {report['quantizer']}; "
        f"collision rate {report['collision_rate']:.4f}, code usage {np.mean(usage):.2f} (least {min(usage):.2f}), "
        f"reconstruction error {'unknown' if error is None else format(error, '.3f')}"
    )
