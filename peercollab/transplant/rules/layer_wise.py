"""Layer-wise transplant: the layer that holds more weighs more."""

import math
from dataclasses import dataclass

from peercollab.errors import PeercollabError
from peercollab.transplant.criteria import CRITERIA, Criterion, CriterionName
from peercollab.transplant.rules.rule import Rule


@dataclass(frozen=True)
class LayerWise(Rule):
    """``W_new = alpha * W + (1 - alpha) * V``, ``alpha = 1 / (1 + exp(-a * delta))``.

    delta compares the criterion of receiver and donor for the layer's weight; bias and buffers
    are mixed with the same alpha. `steepness` is a; 0 averages.
    """

    name = "layer-wise"
    reference = "Enhancing Top-N Item Recommendations by Peer Collaboration (SIGIR 2022)"

    criterion: CriterionName = "entropy"
    steepness: float = 30.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.steepness) and self.steepness >= 0):
            raise PeercollabError(f"--steepness is {self.steepness}: give 0 or more")

    @property
    def measure(self) -> Criterion:
        return CRITERIA[self.criterion]

    def keep(self, own: float, donor: float) -> float:
        return _sigmoid(self.steepness * self.measure.difference(own, donor))


def _sigmoid(x: float) -> float:
    """The logistic function, without overflow on either side."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
