"""How many seeds it takes to claim a difference: one that all three questions of `student` show."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy
from numpy.typing import ArrayLike

from peercollab.significance.student import degrees_of_sum
from peercollab.training.metrics import Float64Array

POWER = 0.8
SIGNIFICANCE = 0.05
MOST_SEEDS = 1_000

# At so many places the luck of the spread that will be found is looked at.
PLACES = 400


@dataclass(frozen=True)
class Effect:
    """A difference, taken for the true one of these users, and why what is seen of it varies.

    Attributes
    ----------
    difference
        Of the means, in the metric's own unit.
    spread
        Standard deviation of the seeds' mean differences, in the same unit.
    taste, rest
        Standard errors of the mean over users, of one seed, in the same unit: by what users differ
        under all seeds alike, and by what is peculiar to a user under a seed. More seeds
        lower the second alone.
    users
        How many there are.
    """

    difference: float
    spread: float
    taste: float
    rest: float
    users: int

    def users_error(self, seeds: int) -> float:
        """The standard error of `student.for_new_users` with so many seeds."""
        return float(np.hypot(self.taste, self.rest / seeds**0.5))


def effect_of(differences_SU: Float64Array) -> Effect:
    """What was seen, taken apart by a two-way analysis of variance.

    The rest is what remains of a difference once the means of its seed and of its user are taken
    off; the users' means vary by taste and by the rest over the number of seeds, from which follows
    the taste, 0 at least. Source: Searle, Casella and McCulloch, "Variance components", 1992.

    Parameters
    ----------
    differences_SU
        float64 ``[seeds, users]``, at least two of each.
    """
    seeds, users = differences_SU.shape
    by_seed_S, by_user_U = differences_SU.mean(axis=1), differences_SU.mean(axis=0)
    rest_SU = differences_SU - by_seed_S[:, None] - by_user_U + differences_SU.mean()
    rest = float((rest_SU**2).sum()) / ((seeds - 1) * (users - 1))
    taste = max(0.0, float(by_user_U.var(ddof=1)) - rest / seeds)
    return Effect(
        difference=float(by_user_U.mean()),
        spread=float(by_seed_S.std(ddof=1)),
        taste=(taste / users) ** 0.5,
        rest=(rest / users) ** 0.5,
        users=users,
    )


def power_of(seeds: int, effect: Effect, level: float = SIGNIFICANCE) -> float:
    """The chance that other trainings, judged on these users, show a true difference.

    The difference that is found has to be beyond what each question asks for. It is normal around
    the true one, with the spread of seeds over their root; what is asked for depends on the spread
    that is found, of which the chance is integrated. Without any luck of users this is the power of
    Student's t test (noncentral t). That a test errs in the direction is left out.

    Parameters
    ----------
    seeds
        n, at least 2.
    effect
        What is true.
    level
        p has to be below it: 5 %, less where several arms share that.
    """
    error, of_users = effect.spread / seeds**0.5, effect.users_error(seeds)
    luck_N, shares_N = _luck()
    of_trainings_N = error * np.sqrt(scipy.stats.chi2.ppf(luck_N, seeds - 1) / (seeds - 1))
    degrees_N = degrees_of_sum(of_trainings_N**2, of_users**2, seeds - 1, effect.users - 1)
    asked_N = np.fmax.reduce(
        [
            np.full_like(luck_N, _asked(of_users, effect.users - 1, level)),
            _asked(of_trainings_N, seeds - 1, level),
            # Not a number where nothing varies, which then asks for nothing.
            _asked(np.hypot(of_trainings_N, of_users), degrees_N, level),
        ]
    )
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        beyond_N = (abs(effect.difference) - asked_N) / error
    # Not a number without a difference and without anything that varies.
    return float(shares_N @ scipy.stats.norm.cdf(np.nan_to_num(beyond_N, nan=-np.inf)))


@cache
def _luck() -> tuple[Float64Array, Float64Array]:
    """Quantiles at which to look, in (0, 1), and the weight of each: Gauss and Legendre's."""
    nodes_N, weights_N = np.polynomial.legendre.leggauss(PLACES)
    return (nodes_N + 1) / 2, weights_N / 2


def enough_users(effect: Effect, level: float = SIGNIFICANCE) -> bool:
    """Whether these users can show the difference at all, so that more seeds can lead to a claim.

    Parameters
    ----------
    effect, level
        As for `power_of`.
    """
    of_users = effect.users_error(MOST_SEEDS)
    return abs(effect.difference) > float(_asked(of_users, effect.users - 1, level))


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


def _asked(error: ArrayLike, degrees: ArrayLike, level: float) -> Float64Array:
    """The difference beyond which p is below the level, of a mean with such standard errors."""
    critical: Float64Array = scipy.stats.t.ppf(1 - level / 2, degrees)
    return critical * np.asarray(error)
