"""A paired permutation test: were both arms the same, every difference could have the other sign.

What is flipped as a whole is the question. By user: these trained models, on other users. By seed:
another training. It assumes no shape but symmetry around 0, and pays for it with few seeds: n of
them have 2^n patterns of signs, so that p is never below 2 / 2^n (`least_p_value`).
"""

import numpy as np
import scipy

from peercollab.training.metrics import Float64Array

FLIPS = 9_999

# Numbers drawn at a time: 32 MB as float64.
CHUNK = 1 << 22

# Sums of the same numbers in another order differ by so much, relatively, and are ties.
ROUNDING = 1e-12


def flip_p_value(differences_N: Float64Array, seed: int, flips: int = FLIPS) -> float:
    """Two-sided p of the hypothesis that the differences are as likely negative as positive.

    Exact where there are at most `flips` patterns of signs; otherwise by random ones, where p is
    ``(1 + as extreme) / (1 + flips)`` (Phipson and Smyth, 2010, arXiv 1603.05766).

    Parameters
    ----------
    differences_N
        float64 ``[units]``: one mean difference for each user, or for each seed.
    seed
        Of the random patterns.
    flips
        How many of them.
    """
    # The sign of 0 changes nothing, and most users of a large catalogue have 0.
    differences_N = differences_N[differences_N != 0]
    units = len(differences_N)
    if units == 0:
        return 1.0
    if units == 1:
        return least_p_value(1)
    if 2**units <= flips:
        return float(
            scipy.stats.permutation_test(
                (differences_N,),
                np.sum,
                permutation_type="samples",
                vectorized=True,
                n_resamples=flips,
            ).pvalue
        )
    # scipy takes ten seconds for the random patterns of 6000 users, this a few tenths.
    rng = np.random.default_rng(seed)
    total = float(differences_N.sum())
    least = abs(total) - ROUNDING * float(np.abs(differences_N).sum())
    rows = max(1, CHUNK // units)
    extreme = 0
    for start in range(0, flips, rows):
        shape = (min(rows, flips - start), units)
        kept = rng.integers(0, 2, size=shape, dtype=np.int8).astype(np.float64)
        # A sum with signs is twice the sum of those that keep theirs, less the sum of all.
        extreme += int(np.count_nonzero(np.abs(2 * (kept @ differences_N) - total) >= least))
    return (1 + extreme) / (1 + flips)


def least_p_value(units: int) -> float:
    """The smallest p that so many differences can give, all of one sign."""
    return 2.0 ** (1 - units)
