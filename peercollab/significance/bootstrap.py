"""An interval that assumes no shape: seeds and users are drawn again, each for itself."""

import numpy as np

from peercollab.significance.student import CONFIDENCE, Interval
from peercollab.training.metrics import Float64Array

RESAMPLES = 2_000


def pigeonhole_interval(
    differences_SU: Float64Array,
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Percentiles of the mean difference when seeds and users are both drawn with replacement.

    Users are crossed with seeds. To draw users anew within each drawn seed (the usual hierarchical
    bootstrap) would treat the same user under two seeds as two users, and lose what is common to
    both. Here a drawn user is drawn in all seeds: Owen, "The pigeonhole bootstrap", Annals of
    Applied Statistics 2007, arXiv 0712.1111.

    With few seeds it is too narrow: drawing again shrinks the spread over n seeds by (n - 1) / n,
    and knows no t distribution. Where all luck is in the training, 95 % come to some 76 % for
    three seeds and 83 % for five; `student.for_both` holds what it promises.

    Parameters
    ----------
    differences_SU
        float64 ``[seeds, users]``.
    seed
        Of the draws.
    resamples
        How many.
    confidence
        The share of resamples that the interval holds.
    """
    seeds, users = differences_SU.shape
    rng = np.random.default_rng(seed)
    mean_R = np.empty(resamples)
    for at in range(resamples):
        drawn_S, drawn_U = rng.integers(seeds, size=seeds), rng.integers(users, size=users)
        # Not as a product with counts: BLAS shares that among threads, which beside other work
        # takes a hundred times as long.
        mean_R[at] = differences_SU[drawn_S].mean(axis=0)[drawn_U].mean()
    low, high = np.quantile(mean_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))
