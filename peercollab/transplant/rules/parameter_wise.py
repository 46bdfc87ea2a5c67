"""Parameter-wise transplant: the small entries of a weight are taken from the donor."""

from dataclasses import dataclass

from torch import Tensor

from peercollab.errors import PeercollabError
from peercollab.transplant.percentile import above
from peercollab.transplant.rules.layer_rule import LayerRule


@dataclass(frozen=True, kw_only=True)
class ParameterWise(LayerRule):
    """``W_new = where(|W| > t, W, V)`` with t the p-th percentile of ``|W|``.

    Weights of two or more dimensions take part, each with its own t (linear interpolation, as
    in numpy). `percent` is p: with 0 nothing is taken, with 100 everything.
    """

    name = "parameter-wise"
    reference = (
        "Enhancing Top-N Item Recommendations by Peer Collaboration (SIGIR 2022), arXiv 2111.00429"
    )

    percent: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_percent(self.percent)

    def keep(self, own: float, donor: float) -> float:
        return 1 - self.percent / 100

    def travels(self, dimensions: int) -> bool:
        return dimensions >= 2 and self.percent > 0

    def kept(self, own_T: Tensor, keep: float) -> Tensor:
        return above(own_T.abs(), self.percent)


def require_percent(percent: float) -> None:
    """Refuse a percent that is none.

    Raises
    ------
    PeercollabError
        It is not from 0 to 100.
    """
    if not 0 <= percent <= 100:
        raise PeercollabError(f"--percent is {percent:g}: give a number from 0 to 100")
