"""From ranks to HR, MRR and NDCG."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from peercollab.data.sequences import Int32Array

Float64Array = npt.NDArray[np.float64]

CUTOFFS = (5, 10, 20)
SELECTION_METRIC = "ndcg@10"

# The rank of a target that is not ranked at all, because the user has seen it already.
MISS = 0


def gains_of(ranks_U: Int32Array, cutoffs: Iterable[int] = CUTOFFS) -> dict[str, Float64Array]:
    """Each user's HR, MRR and NDCG at each cutoff: float64 ``[users]``, from 0 to 1.

    With one relevant item at rank r: HR@k = 1, MRR@k = 1 / r and NDCG@k = 1 / log2(r + 1) where
    r <= k, and 0 elsewhere.

    Parameters
    ----------
    ranks_U
        int32 ``[users]``: rank of each user's target, from 1; `MISS` where it was not ranked.
    cutoffs
        The values of k.
    """
    rank = ranks_U.astype(np.float64)
    ranked = rank != MISS
    gains = {
        "hr": ranked.astype(np.float64),
        "mrr": np.divide(1.0, rank, out=np.zeros_like(rank), where=ranked),
        "ndcg": np.divide(1.0, np.log2(rank + 1), out=np.zeros_like(rank), where=ranked),
    }
    return {
        f"{name}@{k}": np.where(rank <= k, gain, 0.0)
        for name, gain in gains.items()
        for k in cutoffs
    }


METRICS = tuple(gains_of(np.empty(0, dtype=np.int32)))


def metrics_of(ranks_U: Int32Array, cutoffs: Iterable[int] = CUTOFFS) -> dict[str, float]:
    """The means of `gains_of` over users."""
    return {name: float(np.mean(gain_U)) for name, gain_U in gains_of(ranks_U, cutoffs).items()}
