"""Ranking the published way: scores of whole batches, then a loop over users in Python."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from tests.reference.plain_training import PlainModel

MISS = 0


@torch.no_grad()
def plain_ranks(
    model: PlainModel,
    histories: Sequence[Sequence[int]],
    targets: Sequence[int],
    *,
    keep_seen: bool = False,
    batch_size: int = 128,
) -> list[int]:
    """The rank of each history's target among all items, from 1; `MISS` for a seen target.

    Each user's scores are sorted, as the published code does, so that equal ones are in the order
    of the item numbers.
    """
    model.eval()
    device = model.output.weight.device
    ranks = []
    for first in range(0, len(histories), batch_size):
        batch = histories[first : first + batch_size]
        rows = []
        for history in batch:
            latest = list(history[-model.max_length :])
            rows.append([model.padding] * (model.max_length - len(latest)) + latest)
        hidden_BLD = model(torch.tensor(rows, device=device))
        scores_BV = model.output(hidden_BLD[:, -1]).cpu().numpy()
        for row, history in enumerate(batch):
            scores_V = scores_BV[row]
            target = targets[first + row]
            if not keep_seen:
                scores_V[list(history)] = -np.inf
            if scores_V[target] == -np.inf:
                ranks.append(MISS)
                continue
            order_V = np.argsort(-scores_V, kind="stable")
            ranks.append(int(np.flatnonzero(order_V == target)[0]) + 1)
    return ranks


def plain_metrics(ranks: Sequence[int], cutoffs: Sequence[int] = (5, 10, 20)) -> dict[str, float]:
    """HR, MRR and NDCG at each cutoff, averaged over users one by one."""
    sums = {f"{name}@{k}": 0.0 for name in ("hr", "mrr", "ndcg") for k in cutoffs}
    for rank in ranks:
        for k in cutoffs:
            if rank != MISS and rank <= k:
                sums[f"hr@{k}"] += 1.0
                sums[f"mrr@{k}"] += 1.0 / rank
                sums[f"ndcg@{k}"] += 1.0 / math.log2(rank + 1)
    return {name: total / len(ranks) for name, total in sums.items()}
