"""How many seeds it takes to claim a difference: one that all three questions of `student` show."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from peercollab.significance.student import Estimate, with_both_errors

POWER = 0.8
SIGNIFICANCE = 0.05
MOST_SEEDS = 1_000

# Of the noncentral t: the power is almost 1 here whatever is asked for, and scipy gives NaN for
# infinity.
HIGHEST_NONCENTRALITY = 1e4


@dataclass(frozen=True)
class Effect:
    """A difference, taken for the true one, and why what is seen of it varies.

    Attributes
    ----------
    difference
        Of the means, in the metric's own unit.
    spread
        Standard deviation of the seeds' mean differences, in the same unit.
    users_error
        Standard error of the mean over users, in the same unit: more seeds are taken not to lower
        it, as it is mostly the users' taste.
    users
        How many there are.
    """

    difference: float
    spread: float
    users_error: float
    users: int


def power_of(seeds: int, effect: Effect, level: float = SIGNIFICANCE) -> float:
    """The chance that the question which is hardest to answer shows a true difference.

    For each question ``P(T > t)``, T noncentral t with the question's degrees of freedom and the
    noncentrality ``|difference| / standard error``; that a test errs in the direction is left out.
    The questions look at the same values, so that the chance that all show it is hardly below that
    of the hardest. Source: Cohen, "Statistical power analysis for the behavioral sciences", 1988.

    Parameters
    ----------
    seeds
        n, at least 2.
    effect
        What is true.
    level
        p has to be below it: 5 %, less where several arms share that.
    """
    of_users = _of_users(effect)
    of_trainings = Estimate(effect.difference, effect.spread / seeds**0.5, seeds - 1)
    questions = (of_users, of_trainings, with_both_errors(of_users, of_trainings))
    return min(_power(question, level) for question in questions)


def enough_users(effect: Effect, level: float = SIGNIFICANCE) -> bool:
    """Whether the users alone leave a power of 80 %, so that more seeds can lead to a claim.

    Parameters
    ----------
    effect, level
        As for `power_of`.
    """
    return _power(_of_users(effect), level) >= POWER


def seeds_needed(effect: Effect, level: float = SIGNIFICANCE) -> int | None:
    """The fewest seeds that lead to a claim in four of five experiments.

    A difference that made somebody ask is often larger than the true one, and the spread of few
    seeds is itself uncertain, so the number is rough, and rather too low.

    Parameters
    ----------
    effect, level
        As for `power_of`.

    Returns
    -------
    At least 2; None where the difference is 0, or more than `MOST_SEEDS` would be needed: of too
    few users (`enough_users`) no number is enough.
    """
    # Power rises with the number of seeds: halve the span that holds the answer.
    if effect.difference == 0 or power_of(MOST_SEEDS, effect, level) < POWER:
        return None
    too_few, enough = 1, MOST_SEEDS
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if power_of(middle, effect, level) >= POWER:
            enough = middle
        else:
            too_few = middle
    return enough


def _of_users(effect: Effect) -> Estimate:
    return Estimate(effect.difference, effect.users_error, effect.users - 1)


def _power(true: Estimate, level: float) -> float:
    # Where there is no difference it is claimed at the level's own rate, also if nothing spreads.
    if true.mean == 0:
        return level
    critical = stats.t.ppf(1 - level / 2, true.degrees)
    # By what may be tiny, or 0, it may come to infinity, and is then the highest.
    with np.errstate(over="ignore", divide="ignore"):
        noncentrality = float(np.abs(np.float64(true.mean)) / true.standard_error)
    return float(stats.nct.sf(critical, true.degrees, min(noncentrality, HIGHEST_NONCENTRALITY)))
