"""Where the target of each case ranks, and what a metric makes of it."""

from __future__ import annotations

import numpy as np
import torch

from recbole_attn.analysis.cases import Cases
from recbole_attn.analysis.inside import interaction


@torch.no_grad()
def ranks(model, cases: Cases) -> np.ndarray:
    """(U,) 1 + the number of items that score higher than the target, of all items."""
    found = np.empty(len(cases.user), dtype=np.int64)
    for rows, items, length in cases.batches():
        scores = model.full_sort_predict(interaction(model, items, length)).view(len(rows), -1)
        scores[:, 0] = -torch.inf
        target = cases.target[rows].to(scores.device)[:, None]
        found[rows.numpy()] = ((scores > scores.gather(1, target)).sum(1) + 1).cpu().numpy()
    return found


def ndcg(rank: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of one target at each rank."""
    return np.where(rank <= k, 1 / np.log2(rank + 1.0), 0.0)
