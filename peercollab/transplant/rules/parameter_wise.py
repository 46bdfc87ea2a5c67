"""Parameter-wise transplant: the small entries of a weight are taken from the donor."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from peercollab.errors import PeercollabError
from peercollab.transplant.rules.rule import Rule


@dataclass(frozen=True)
class ParameterWise(Rule):
    """``W_new = where(|W| > t, W, V)`` with t the p-th percentile of ``|W|``.

    Weights of two or more dimensions take part, each with its own t (linear interpolation, as
    in numpy). `percent` is p: with 0 nothing is taken, with 100 everything.
    """

    name = "parameter-wise"
    reference = "Enhancing Top-N Item Recommendations by Peer Collaboration (SIGIR 2022)"

    percent: float = 50.0

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise PeercollabError(f"--percent is {self.percent:g}: give a number from 0 to 100")

    def keep(self, own: float, donor: float) -> float:
        return 1 - self.percent / 100

    def travels(self, dimensions: int) -> bool:
        return dimensions >= 2 and self.percent > 0

    def mix(self, own_T: Tensor, donor_T: Tensor, keep: float) -> Tensor:
        magnitude_T = own_T.abs()
        return torch.where(magnitude_T > self._threshold(magnitude_T), own_T, donor_T)

    def _threshold(self, magnitude_T: Tensor) -> Tensor:
        """The largest magnitude that is not above the percentile.

        The interpolated percentile lies between two neighbours in sorted order, and never on the
        upper one, so "above the percentile" and "above the lower neighbour" are the same. A
        selection finds that one; `torch.quantile` would sort, and refuses large tensors.
        """
        # In fractions: 100 * (57 / 100) is below 57 in floating point.
        rank = math.floor((magnitude_T.numel() - 1) * Fraction(self.percent) / 100)
        return magnitude_T.flatten().kthvalue(rank + 1).values
