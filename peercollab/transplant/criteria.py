"""How much a layer's weight holds, as one number, and how two such numbers are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CriterionName = Literal["entropy", "l1-norm", "l2-norm", "importance"]
BINS = 10


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
    x_T = weight_T.flatten().double()
    low, high = x_T.min(), x_T.max()
    if low == high:
        return 0.0
    bin_T = ((x_T - low) * bins / (high - low)).floor().clamp_(max=bins - 1).long()
    p = torch.bincount(bin_T, minlength=bins).double() / len(x_T)
    return -float(torch.xlogy(p, p).sum())


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
