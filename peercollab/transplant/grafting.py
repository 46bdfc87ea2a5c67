"""A peer's part in exchanges: it measures its layers, gives some of them, and takes others in.

Plain torch and numpy: it knows nothing of training, or of who carries what it gives.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from peercollab.errors import PeercollabError
from peercollab.models.model import SequenceModel
from peercollab.transplant.alignment import align
from peercollab.transplant.layers import LayerMap, choose_layers, layer_map, layer_tensors
from peercollab.transplant.options import Transplant
from peercollab.transplant.plan import LayerStatistics, Request, TransplantPlan
from peercollab.transplant.rules.rule import Bundle, Bundles, Intake, Memory, travelling

# What travels from a donor: of each tensor the weights, and the moments where they travel too.
Parcel = Mapping[str, tuple[np.ndarray, ...]]


class Learner(Protocol):
    """Who trains the model; exchanges may ask it for the optimizer's moments, and touch them."""

    def moments(self) -> Mapping[str, tuple[Tensor, ...]]:
        """The moments of each parameter, in place: writing to one changes the optimizer."""

    def forget_moments(self, name: str, changed_T: Tensor) -> None:
        """Set moments of a parameter to 0 where bool `changed_T` says so."""

    def importances(self) -> Mapping[str, Tensor]:
        """Of each parameter the mean ``|weight * gradient|`` of the epoch so far."""


@dataclass(frozen=True)
class Graft:
    """What one exchange was for a receiver.

    Attributes
    ----------
    bytes
        Bytes of weights that travelled to it.
    measured
        Of a rule whose shares are measured, the donors' share in each layer.
    similarity
        In the first exchange of a round, of each donor that gave whole layers the cosine between
        its weight and the receiver's own in each of these, before they were mixed.
    """

    bytes: int
    measured: Mapping[str, float]
    similarity: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


class Grafting:
    """Exchanges of one peer's model, as a transplant wants them.

    Parameters
    ----------
    model
        Whose weights they are; any network.
    transplant
        The rule, which layers take part, and what becomes of moments.
    learner
        Who trains it.
    device
        Where it lives.

    Attributes
    ----------
    layers
        All layers of the model.
    memory
        What the rule remembers.

    Raises
    ------
    PeercollabError
        The model's layers cannot be told apart, none takes part, or units of a model are to be
        aligned that does not say which.
    """

    def __init__(
        self, model: nn.Module, transplant: Transplant, learner: Learner, device: torch.device
    ) -> None:
        self._model = model
        self._transplant = transplant
        self._rule = transplant.rule
        self._learner = learner
        self._device = device
        self._symmetries = model.symmetries() if isinstance(model, SequenceModel) else ()
        if transplant.align and not self._symmetries:
            raise PeercollabError(
                "--align needs a model that says which units can change places, and this one does "
                "not: leave it out"
            )
        self.layers: LayerMap = layer_map(model)
        taking_part = choose_layers(self.layers, transplant.layers)
        self._tensors = {name: travelling(layer, self._rule) for name, layer in taking_part.items()}
        self._buffers = frozenset[str]().union(*(layer.buffers for layer in taking_part.values()))
        self.memory: Memory = self._rule.begin(self._bundles(self._tensors))
        self._compared = 0

    def statistics(self, layers: Sequence[str]) -> LayerStatistics:
        """The rule's criterion of each layer; empty if the rule measures none."""
        if (criterion := self._rule.measure) is None:
            return {}
        weights = {name: self.layers[name].weight for name in layers}
        if criterion.of == "gradient":
            measured = self._learner.importances()
            # To the loss statistics and frozen weights, which have no gradient, do not matter.
            return {
                name: criterion.measure(measured[weight]) if weight in measured else 0.0
                for name, weight in weights.items()
            }
        tensors = layer_tensors(self._model)
        return {name: criterion.measure(tensors[weight]) for name, weight in weights.items()}

    def export(self, request: Request) -> Parcel:
        """What is asked of it, on a CPU: views of the present weights, or copies."""
        given = self._rule.give(self._bundles(request.layers), request)
        return {
            name: tuple(part_T.cpu().numpy() for part_T in bundle) for name, bundle in given.items()
        }

    @torch.no_grad()
    def graft(self, plan: TransplantPlan, *parcels: Parcel) -> Graft:
        """Mix what donors exported into the present weights.

        Parameters
        ----------
        plan
            The part of the plan that concerns this peer.
        parcels
            What the donor of each of its transfers gave; only read, as it may lie in memory that
            other receivers share.
        """
        own = self._bundles(self._tensors)
        before = {}
        if self._transplant.moments == "reset":
            before = {name: bundle[0].clone() for name, bundle in own.items()}
        given = {
            transfer.donor: self._unpacked(parcel, own)
            for transfer, parcel in zip(plan.transfers, parcels, strict=True)
        }
        similarity = self._similarity(own, given) if plan.exchange.round != self._compared else {}
        self._compared = plan.exchange.round
        shares = {
            transfer.donor: {
                name: share
                for layer, share in transfer.shares.items()
                for name in self._tensors[layer]
            }
            for transfer in plan.transfers
        }
        intake = Intake(plan.receivers[0], plan, own, given, shares, self._buffers)
        measured = self._rule.take(intake, self.memory)
        self._reset_moments(before, own)
        moved = sum(
            part.nbytes for parcel in parcels for parts in parcel.values() for part in parts
        )
        return Graft(
            moved,
            {
                layer: measured[self.layers[layer].weight]
                for layer in self._tensors
                if self.layers[layer].weight in measured
            },
            similarity,
        )

    def remember(self, memory: Memory) -> None:
        """Go on from what was remembered once, in the next exchange as in the first of a round."""
        self._compared = 0
        self.memory = {
            what: {name: tensor.to(self._device) for name, tensor in of.items()}
            for what, of in memory.items()
        }

    def _bundles(self, layers: Iterable[str]) -> dict[str, Bundle]:
        """The travelling tensors of some layers, with their moments where these travel too."""
        weights = layer_tensors(self._model)
        moments = self._learner.moments() if self._transplant.moments == "transplant" else {}
        return {
            name: (weights[name], *moments.get(name, ()))
            for layer in layers
            for name in self._tensors[layer]
        }

    def _unpacked(self, parcel: Parcel, own: Bundles) -> Bundles:
        """What a donor gave as tensors on the own device, its units in the own order if wanted."""
        given = {
            name: tuple(shared_tensor(part).to(own[name][0].device) for part in parts)
            for name, parts in parcel.items()
        }
        return align(own, given, self._symmetries) if self._transplant.align else given

    def _similarity(
        self, own: Bundles, given: Mapping[int, Bundles]
    ) -> dict[int, dict[str, float]]:
        """Of each donor the cosine to the own weight, for all layers that it gave whole."""
        return {
            donor: {
                layer: _cosine(own[weight][0], bundles[weight][0])
                for layer in self._tensors
                if (weight := self.layers[layer].weight) in bundles
                and bundles[weight][0].shape == own[weight][0].shape
            }
            for donor, bundles in given.items()
        }

    def _reset_moments(self, before: Mapping[str, Tensor], own: Bundles) -> None:
        """Forget the moments of all entries that an exchange has changed."""
        for name, old_T in before.items():
            self._learner.forget_moments(name, own[name][0] != old_T)


def _cosine(one_T: Tensor, other_T: Tensor) -> float:
    return float(torch.cosine_similarity(one_T.flatten(), other_T.flatten(), dim=0))


def shared_tensor(array: np.ndarray) -> Tensor:
    """A tensor over the array's own memory, which may be read-only and is not written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
