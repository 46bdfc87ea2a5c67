"""How many seeds it takes to tell a difference from the luck of training."""

import math

import numpy as np
from scipy import stats

POWER = 0.8
SIGNIFICANCE = 0.05
MOST_SEEDS = 1_000

# Of the noncentral t. Here the power is above 0.88 for two seeds and almost 1 for more, and scipy
# gives NaN for much larger ones.
HIGHEST_NONCENTRALITY = 20.0


def power_of(seeds: int, difference: float, spread: float) -> float:
    """The chance that a paired two-sided t test over seeds finds a true difference.

    ``P(T > t)`` for T noncentral t with n - 1 degrees of freedom and noncentrality
    ``|difference| sqrt(n) / spread``; that the test errs in the direction is left out. Source:
    Cohen, "Statistical power analysis for the behavioral sciences", 1988.

    Parameters
    ----------
    seeds
        n, at least 2.
    difference
        The true mean difference, in the metric's own unit.
    spread
        Standard deviation of the seeds' mean differences, in the same unit, above 0.
    """
    critical = stats.t.ppf(1 - SIGNIFICANCE / 2, seeds - 1)
    # Divided first by what may be tiny, it may overflow to infinity, and is then the highest.
    with np.errstate(over="ignore"):
        noncentrality = float(np.abs(np.float64(difference)) / spread * math.sqrt(seeds))
    return float(stats.nct.sf(critical, seeds - 1, min(noncentrality, HIGHEST_NONCENTRALITY)))


def seeds_needed(difference: float, spread: float) -> int | None:
    """The fewest seeds that find a difference in four of five experiments, at the 5 % level.

    The difference and the spread that were seen are taken for the true ones. A difference that
    made somebody ask is often larger than the true one, and the spread of few seeds is itself
    uncertain, so the number is rough, and rather too low.

    Parameters
    ----------
    difference, spread
        As for `power_of`; the spread may be 0.

    Returns
    -------
    At least 2; None where the difference is 0, or more than `MOST_SEEDS` are needed.
    """
    if difference == 0:
        return None
    if spread == 0:
        return 2
    # Power rises with the number of seeds: halve the span that holds the answer.
    if power_of(MOST_SEEDS, difference, spread) < POWER:
        return None
    too_few, enough = 1, MOST_SEEDS
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if power_of(middle, difference, spread) >= POWER:
            enough = middle
        else:
            too_few = middle
    return enough
