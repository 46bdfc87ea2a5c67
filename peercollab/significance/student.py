"""How sure a mean difference is, by Student's t, for three questions.

A difference ``d[s, u]`` of seed s and user u varies for two reasons: another training gives another
model, and another user likes something else. Users are crossed with seeds (every model is judged
on the same users), so that neither can stand for the other. What may vary depends on what is
asked:

======================  =====================================================================
`for_new_users`         the trained models stay as they are, and other users of the kind come
`for_new_trainings`     the users stay, and one trains again with other seeds
`for_both`              one trains again, and other users come: what a claim must stand up to
======================  =====================================================================
"""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from peercollab.training.metrics import Float64Array

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, in the metric's own unit."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, in the metric's own unit, and degrees of freedom."""

    mean: float
    standard_error: float
    degrees: float

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Student's two-sided confidence interval."""
        margin = float(scipy.stats.t.ppf((1 + confidence) / 2, self.degrees)) * self.standard_error
        return Interval(self.mean - margin, self.mean + margin)

    def p_value(self) -> float:
        """Two-sided, of the hypothesis that the true mean is 0."""
        if self.standard_error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * scipy.stats.t.sf(abs(self.mean) / self.standard_error, self.degrees))


def for_new_users(differences_SU: Float64Array) -> Estimate:
    """Of each user's mean over seeds; says nothing of another training.

    Parameters
    ----------
    differences_SU
        float64 ``[seeds, users]``, at least two users.
    """
    return _of_sample(differences_SU.mean(axis=0))


def for_new_trainings(differences_SU: Float64Array) -> Estimate:
    """Of each seed's mean over users; says nothing of other users.

    Parameters
    ----------
    differences_SU
        float64 ``[seeds, users]``, at least two seeds.
    """
    return _of_sample(differences_SU.mean(axis=1))


def for_both(differences_SU: Float64Array) -> Estimate:
    """Of all, with both reasons to vary: the two variances above are added.

    What is left once seed and user are accounted for enters both, so the sum errs on the wide
    side: Owen, "The pigeonhole bootstrap", 2007. The degrees of freedom are Satterthwaite's (1946),
    and with few seeds near those of the seeds.

    Parameters
    ----------
    differences_SU
        float64 ``[seeds, users]``, at least two of each.
    """
    return with_both_errors(for_new_users(differences_SU), for_new_trainings(differences_SU))


def with_both_errors(one: Estimate, other: Estimate) -> Estimate:
    """The mean of the first with the errors of both, as `for_both` adds them."""
    variances = one.standard_error**2, other.standard_error**2
    degrees = one.degrees, other.degrees
    total = sum(variances)
    return Estimate(
        mean=one.mean,
        standard_error=total**0.5,
        degrees=float(degrees_of_sum(*variances, *degrees)) if total else sum(degrees),
    )


def degrees_of_sum(
    one: ArrayLike, other: ArrayLike, degrees: float, other_degrees: float
) -> Float64Array:
    """Satterthwaite's degrees of freedom of a sum of two variances; NaN where both are 0.

    Parameters
    ----------
    one, other
        The variances, float64 of shapes that go together.
    degrees, other_degrees
        Theirs.
    """
    one, other = np.asarray(one), np.asarray(other)
    # Scaled by their sum: the square of a variance may be too small for a number.
    with np.errstate(divide="ignore", invalid="ignore"):
        share = one / (one + other)
        inverse: Float64Array = 1 / (share**2 / degrees + (1 - share) ** 2 / other_degrees)
    return inverse


def _of_sample(sample_N: Float64Array) -> Estimate:
    size = len(sample_N)
    return Estimate(
        mean=float(np.mean(sample_N)),
        standard_error=float(np.std(sample_N, ddof=1)) / size**0.5,
        degrees=size - 1,
    )
