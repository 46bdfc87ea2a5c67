"""Layer-wise transplant: the layer that holds more weighs more."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from peercollab.errors import PeercollabError
from peercollab.transplant.criteria import CRITERIA
from peercollab.transplant.rules.layer_rule import LayerRule

Weighting = Literal["sigmoid", "arctan"]


@dataclass(frozen=True, kw_only=True)
class LayerWise(LayerRule):
    """``W_new = alpha * W + (1 - alpha) * V``, where alpha follows from a difference delta.

    delta compares the criterion of receiver and donor for the layer's weight; bias and buffers
    are mixed with the same alpha. The weighting is `sigmoid`, ``alpha = 1 / (1 + exp(-a *
    delta))`` with `steepness` a, or `arctan`, ``alpha = A / pi * arctan(c * delta) + 1 / 2``
    with `amplitude` A and `slope` c, as in "Filter Grafting for Deep Neural Networks" (CVPR
    2020, arXiv 2001.05868). A steepness, an amplitude or a slope of 0 averages.
    """

    name = "layer-wise"
    reference = (
        "Enhancing Top-N Item Recommendations by Peer Collaboration (SIGIR 2022), arXiv 2111.00429"
    )

    steepness: float = 30.0
    weighting: Weighting = "sigmoid"
    amplitude: float = 0.4
    slope: float = 500.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steepness", "slope"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise PeercollabError(f"--{name} is {value}: give 0 or more")
        if not 0 <= self.amplitude <= 1:
            raise PeercollabError(f"--amplitude is {self.amplitude}: give a number from 0 to 1")

    @property
    def compares(self) -> bool:
        return True

    def idle(self) -> Mapping[str, str]:
        if self.weighting == "arctan":
            return {**super().idle(), "steepness": "--weighting sigmoid"}
        return {**super().idle(), **dict.fromkeys(("amplitude", "slope"), "--weighting arctan")}

    def keep(self, own: float, donor: float) -> float:
        delta = CRITERIA[self.criterion].difference(own, donor)
        if self.weighting == "arctan":
            return self.amplitude / math.pi * math.atan(self.slope * delta) + 0.5
        return _sigmoid(self.steepness * delta)


def _sigmoid(x: float) -> float:
    """The logistic function, without overflow on either side."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
