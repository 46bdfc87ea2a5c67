"""What every rule is: how much a receiver keeps, what travels, and how the two are mixed."""

from typing import ClassVar

from torch import Tensor

from peercollab.transplant.criteria import Criterion


class Rule:
    """A way of giving weights from donor to receiver; its fields are its options.

    Rules are pure and remember nothing.

    Attributes
    ----------
    name, reference
        What it is called on the command line, and where it comes from.
    exchanges
        Whether anything is given at all.
    """

    name: ClassVar[str]
    reference: ClassVar[str]
    exchanges: ClassVar[bool] = True

    @property
    def measure(self) -> Criterion | None:
        """What the coordinator must know of every layer; None if nothing."""
        return None

    def keep(self, own: float, donor: float) -> float:
        """Share of its own weights that the receiver keeps, from both peers' criterion."""
        raise NotImplementedError

    def travels(self, dimensions: int) -> bool:
        """Whether a tensor of so many dimensions takes part."""
        return self.exchanges

    def mix(self, own_T: Tensor, donor_T: Tensor, keep: float) -> Tensor:
        """The receiver's new weights: ``keep * own + (1 - keep) * donor``."""
        return own_T.mul(keep).add_(donor_T, alpha=1 - keep)
