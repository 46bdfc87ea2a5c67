"""How much a layer's weight holds, as one number, and how two such numbers are compared."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

CriterionName = Literal["entropy", "l1-norm", "l2-norm", "importance"]
BINS = 10

# Compared with one bin's end after another, this many stay in a core's own cache.
_ENTRIES_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Criterion:
    """A measure of a layer, and the difference that decides a mixture.

    Attributes
    ----------
    measure
        From what is measured, a tensor of any shape, to a number.
    difference
        From the receiver's and the donor's number to delta: positive where the receiver holds
        more.
    of
        What is measured of a layer: its weight, or ``|weight * gradient|`` over the epoch, which
        the peer averages while it trains.
    """

    name: CriterionName
    measure: Callable[[Tensor], float]
    difference: Callable[[float, float], float]
    of: Literal["weight", "gradient"] = "weight"


def entropy(weight_T: Tensor, bins: int = BINS) -> float:
    """Entropy, in nats, of the weight's entries over equal-width bins of [min, max].

    ``H = -sum_k p_k ln p_k``, where an empty bin adds 0 and a constant tensor has 0. An entry
    is in bin ``min(m - 1, floor((x - min) * m / (max - min)))``, computed in float64. Source:
    "Filter Grafting for Deep Neural Networks" (CVPR 2020, arXiv 2001.05868); the PCRec
    code leaves the maximum out of the last bin, which is not followed here.
    """
    x_N = weight_T.flatten()
    low, high = (float(end) for end in x_N.aminmax())
    if low == high:
        return 0.0
    reached = count_at_least(x_N, _lower_ends(low, high, bins, x_N.dtype == torch.float64))
    counts = -np.diff([len(x_N), *reached, 0])
    p = counts[counts > 0] / len(x_N)
    # No term of the sum is above 0, and one of 0 must not become -0.0.
    return abs(float((p * np.log(p)).sum()))


def count_at_least(x_N: Tensor, ends: Sequence[float]) -> list[int]:
    """How many entries are at or above each of some values: one pass over memory on a CPU."""
    if x_N.device.type != "cpu":
        return torch.stack([(x_N >= end).sum() for end in ends]).tolist()
    reached = np.zeros(len(ends), dtype=np.int64)
    for part in np.split(x_N.numpy(), range(_ENTRIES_AT_ONCE, len(x_N), _ENTRIES_AT_ONCE)):
        reached += [np.count_nonzero(part >= end) for end in ends]
    return reached.tolist()


def _lower_ends(low: float, high: float, bins: int, is_double: bool) -> list[float]:
    """The least number of the weight's own type in each bin but the first.

    Which bin a number is in never falls as the number rises, rounding included. So a bin is told
    by its least number, which bisection finds, and an entry's by comparisons alone.
    """
    whole, number = (np.int64, np.float64) if is_double else (np.int32, np.float32)

    # Floating-point numbers of one sign are in the order of their bits.
    def place_of(x: float) -> int:
        bits = int(number(abs(x)).view(whole))
        return -bits if x < 0 else bits

    def at(place: int) -> float:
        return math.copysign(float(whole(abs(place)).view(number)), place)

    def least_of_bin(k: int) -> float:
        below, reached = place_of(low), place_of(high)
        while reached - below > 1:
            middle = (below + reached) // 2
            if math.floor((at(middle) - low) * bins / (high - low)) >= k:
                reached = middle
            else:
                below = middle
        return at(reached)

    return [least_of_bin(k) for k in range(1, bins)]


def l1_norm(weight_T: Tensor) -> float:
    """Sum of absolute entries, in float64."""
    return float(weight_T.abs().sum(dtype=torch.float64))


def l2_norm(weight_T: Tensor) -> float:
    """Root of the sum of squared entries, in float64."""
    return float(torch.linalg.vector_norm(weight_T, dtype=torch.float64))


def importance(product: Tensor) -> float:
    """Mean of ``|weight * gradient|`` over a layer's entries and an epoch's steps, as it is.

    To first order, how much the loss would change if an entry were set to 0. Source: "Importance
    Estimation for Neural Network Pruning" (CVPR 2019, arXiv 1906.10771), whose main form squares
    the product; the absolute value is ours.
    """
    return float(product)


def plain_difference(own: float, donor: float) -> float:
    """``own - donor``."""
    return own - donor


def relative_difference(own: float, donor: float) -> float:
    """``(own - donor) / (own + donor)``; 0 when both are 0."""
    return (own - donor) / (own + donor) if own + donor else 0.0


CRITERIA: dict[CriterionName, Criterion] = {
    "entropy": Criterion("entropy", entropy, plain_difference),
    "l1-norm": Criterion("l1-norm", l1_norm, relative_difference),
    "l2-norm": Criterion("l2-norm", l2_norm, relative_difference),
    "importance": Criterion("importance", importance, relative_difference, of="gradient"),
}
