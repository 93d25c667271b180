"""Histories of like length in one batch, so that little of it is padding."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Sampler

from recbole_attn.errors import UserError


def checked_buckets(config, shuffle: bool) -> int:
    """The setting `length_buckets`.

    Raises:
        UserError: it is not a whole number >= 1, or training is not shuffled, or runs in parts.
    """
    buckets = config["length_buckets"]
    if not isinstance(buckets, int) or isinstance(buckets, bool) or buckets < 1:
        raise UserError(f"length_buckets={buckets}: must be a whole number >= 1, or ~ for none")
    if not shuffle or not config["single_spec"]:
        raise UserError(f"length_buckets={buckets}: needs shuffle: true and one process; or set it to ~")
    return buckets


def bucket_of(lengths: np.ndarray, buckets: int, weights: np.ndarray | int = 1) -> torch.Tensor:
    """Bucket (rows,) of each length: intervals of length that hold about equally many rows.

    Args:
        weights: how many rows each one counts for.
    """
    rows = np.repeat(lengths, weights)
    buckets = min(buckets, len(rows))  # more would be the same
    edges = np.quantile(rows, np.arange(1, buckets) / buckets)
    return torch.from_numpy(np.searchsorted(np.unique(edges), lengths))


class BucketSampler(Sampler):
    """Every row once: shuffled, then sorted by bucket, cut into batches, and the batches shuffled.

    The last, smaller batch is drawn from all rows. Randomness comes from the loader's generator alone.

    Args:
        bucket: (rows,) the bucket of each row.
    """

    def __init__(self, loader, bucket: torch.Tensor):
        self.loader, self.bucket = loader, bucket

    def __len__(self):
        return len(self.bucket)

    def __iter__(self):
        generator, size = self.loader.generator, self.loader.batch_sampler.batch_size
        rows = torch.randperm(len(self.bucket), generator=generator)
        full = len(rows) // size
        rows, rest = rows[: full * size], rows[full * size :]
        rows = rows[self.bucket[rows].argsort(stable=True)].view(full, size)
        batches = torch.randperm(full, generator=generator)
        return iter(torch.cat([rows[batches].flatten(), rest]).tolist())
