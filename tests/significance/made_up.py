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


def paired(by_arm: Mapping[str, Float64Array]) -> PairedValues:
    """Arms with the given differences from a baseline that is 0.1 everywhere."""
    seeds, users = next(iter(by_arm.values())).shape
    baseline_SU = np.full((seeds, users), 0.1)
    return PairedValues(
        metric="ndcg@10",
        baseline="solo",
        seeds=tuple(range(1, seeds + 1)),
        users=np.array([f"u{user:06}" for user in range(users)], dtype=np.object_),
        values={"solo": baseline_SU}
        | {arm: baseline_SU + difference_SU for arm, difference_SU in by_arm.items()},
    )
