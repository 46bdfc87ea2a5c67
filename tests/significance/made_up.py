"""Arms made up from known parts, so that what is true of them is known."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from peercollab.significance.pairing import PairedValues
from peercollab.training.metrics import Float64Array


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a mean over all seeds and users, by what it comes from."""

    training: float = 0.0
    taste: float = 0.0
    rest: float = 0.0


def differences(
    rng: np.random.Generator, seeds: int, users: int, spread: Spread, true: float = 0.0
) -> Float64Array:
    """float64 ``[seeds, users]``: the true difference, and normal luck of three kinds."""
    return (
        true
        + rng.normal(size=(seeds, 1)) * spread.training * seeds**0.5
        + rng.normal(size=(1, users)) * spread.taste * users**0.5
        + rng.normal(size=(seeds, users)) * spread.rest * (seeds * users) ** 0.5
    )


def gains(rng: np.random.Generator, seeds: int, users: int, luck: float) -> Float64Array:
    """float64 ``[seeds, users]``: NDCG@10 of users of whom most have nothing in their first ten.

    Some users are easier than others, and some trainings better, by a factor of the odds with a
    standard deviation of `luck` in its logarithm.
    """
    ease_U = np.random.default_rng(7).normal(-1.5, 1.0, size=(1, users))
    chance_SU = 1 / (1 + np.exp(-ease_U - luck * rng.normal(size=(seeds, 1))))
    rank_SU = rng.integers(1, 11, size=(seeds, users))
    is_hit_SU = rng.random((seeds, users)) < chance_SU
    return np.where(is_hit_SU, 1 / np.log2(rank_SU + 1), 0.0)


def paired(by_arm: Mapping[str, Float64Array]) -> PairedValues:
    """Arms with the given differences from a baseline that is 0.1 everywhere."""
    baseline_SU = np.full_like(next(iter(by_arm.values())), 0.1)
    return beside(
        baseline_SU, {arm: baseline_SU + difference_SU for arm, difference_SU in by_arm.items()}
    )


def beside(baseline_SU: Float64Array, by_arm: Mapping[str, Float64Array]) -> PairedValues:
    """Arms with the given values, and the baseline's."""
    seeds, users = baseline_SU.shape
    return PairedValues(
        metric="ndcg@10",
        baseline="solo",
        seeds=tuple(range(1, seeds + 1)),
        users=np.array([f"u{user:06}" for user in range(users)], dtype=np.object_),
        values={"solo": baseline_SU} | dict(by_arm),
    )
