"""A peer of `peercollab.collaborate`: any network, trained as its user says.

A plain class, like `Peer`: it knows nothing of Ray.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from peercollab.errors import PeercollabError
from peercollab.training.growth import is_finite, largest_weight, most_allowed
from peercollab.training.streams import SHARED_STREAM, stream_seed
from peercollab.transplant.grafting import Grafting, Parcel
from peercollab.transplant.layers import LayerMap
from peercollab.transplant.options import Transplant
from peercollab.transplant.plan import LayerStatistics, Request, TransplantPlan

Make = Callable[[int], nn.Module]
Train = Callable[[nn.Module, int, int], None]
Score = Callable[[nn.Module], float]


@dataclass(frozen=True)
class NetworkSetup:
    """What all peers have in common: the user's functions, the seed, and the exchange."""

    make: Make
    train: Train
    score: Score
    seed: int
    transplant: Transplant
    threads: int


class NetworkPeer:
    """A network with its own random numbers and its last finite state.

    Parameters
    ----------
    number
        From 1.
    setup
        What all peers have in common.
    """

    def __init__(self, number: int, setup: NetworkSetup) -> None:
        self._number = number
        self._setup = setup
        shared = setup.transplant.rule.shared_start
        seed = stream_seed(setup.seed, SHARED_STREAM if shared else number, "initialisation")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = setup.make(1 if shared else number)
        if not isinstance(self.network, nn.Module):
            raise PeercollabError(
                f"collaborate: make gave {type(self.network).__name__}: it must make a "
                "torch.nn.Module"
            )
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        self._grafting = Grafting(self.network, setup.transplant, self, device)
        self._finite = self._state()

    def layers(self) -> LayerMap:
        """The layers of its network."""
        return self._grafting.layers

    def train(self, round: int) -> bool:
        """One round as the user says; whether all can have its weights. Else it goes back."""
        rule = self._setup.transplant.rule
        most = most_allowed(self.network) if rule.exchanges and rule.has_donors else math.inf
        self.network.train()
        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(self._setup.seed, self._number, "dropout", round))
            self._setup.train(self.network, self._number, round)
        is_well = is_finite(self.network) and largest_weight(self.network) <= most
        if not is_well:
            self.network.load_state_dict(self._finite)
        return is_well

    def score(self) -> float | None:
        """As the user says, in evaluation mode; None if it is no finite number.

        Torch's random numbers are the same for all, in every round.
        """
        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(self._setup.seed, SHARED_STREAM, "score"))
            value = float(self._setup.score(self.network.eval()))
        return value if math.isfinite(value) else None

    def statistics(self, layers: Sequence[str]) -> LayerStatistics:
        """The rule's criterion of each layer."""
        return self._grafting.statistics(layers)

    def export(self, request: Request) -> Parcel:
        """Copies of what is asked of it."""
        given = self._grafting.export(request)
        return {name: tuple(part.copy() for part in parts) for name, parts in given.items()}

    def graft(self, plan: TransplantPlan, *parcels: Parcel) -> None:
        """Mix what others gave into its weights."""
        self._grafting.graft(plan, *parcels)

    def settle(self) -> None:
        """Note the state at the end of a round as the one to go back to."""
        self._finite = self._state()

    def weights(self) -> dict[str, np.ndarray]:
        """Copies of all its tensors, on a CPU."""
        return {name: value.cpu().numpy() for name, value in self._state().items()}

    def moments(self) -> Mapping[str, tuple[Tensor, ...]]:
        """None: the optimizer is the user's."""
        return {}

    def forget_moments(self, name: str, changed_T: Tensor) -> None:
        """Nothing: the optimizer is the user's."""

    def importances(self) -> Mapping[str, Tensor]:
        """None: gradients are the user's, so that `collaborate` refuses what needs them."""
        return {}

    def _state(self) -> dict[str, Tensor]:
        return {name: v.detach().clone() for name, v in self.network.state_dict().items()}
