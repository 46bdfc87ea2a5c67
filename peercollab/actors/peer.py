"""A peer: a trainer that can also measure, give and receive layers.

A plain class: it knows nothing of Ray, of other peers, or of who calls it.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from peercollab.data.sequences import Histories, Int32Array
from peercollab.data.split import HoldOut
from peercollab.models.sasrec import SASRecOptions
from peercollab.models.saved import save_weights
from peercollab.training.metrics import metrics_of
from peercollab.training.options import TrainingOptions
from peercollab.training.trainer import Trainer
from peercollab.transplant.layers import LayerMap, layer_map, layer_tensors
from peercollab.transplant.options import TransplantOptions
from peercollab.transplant.plan import LayerStatistics, Transfer, travelling

Phase = Literal["wait", "train", "rank", "exchange"]
LayerArrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PeerSetup:
    """What is a peer's own: its number (from 1), its stream of random numbers, its rate."""

    number: int
    stream: int
    learning_rate: float


@dataclass(frozen=True)
class SharedSetup:
    """What all peers of a run have in common; `best` is the folder of the kept model."""

    model: SASRecOptions
    training: TrainingOptions
    transplant: TransplantOptions
    threads: int
    best: Path


@dataclass(frozen=True)
class PeerProgress:
    """Where a peer is: `step` of `steps` in this round's epoch, and the mean loss so far."""

    peer: int
    round: int
    step: int
    steps: int
    loss: float
    phase: Phase


@dataclass(frozen=True)
class PeerReport:
    """What a round's training came to, and validation where it was due."""

    peer: int
    loss: float
    learning_rate: float
    positions: int
    validation: dict[str, float] | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Graft:
    """What a peer received: bytes that travelled to it, and the seconds that mixing took."""

    bytes: int
    seconds: float


class Peer:
    """One peer of a run.

    Parameters
    ----------
    own, shared
        Its own settings, and those of all.
    histories
        The interactions, only read.
    device
        Where it trains.
    on_progress
        Called as training goes on, for peers that live in the caller's process.
    """

    def __init__(
        self,
        own: PeerSetup,
        shared: SharedSetup,
        histories: Histories,
        device: torch.device,
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        torch.set_num_threads(shared.threads)
        self.number = own.number
        self.best = shared.best
        self.rule = shared.transplant.build_rule()
        self.trainer = Trainer(
            histories,
            shared.model,
            shared.training,
            stream=own.stream,
            learning_rate=own.learning_rate,
            device=device,
        )
        self._layers = layer_map(self.trainer.model)
        self._on_progress = on_progress
        self._progress = PeerProgress(
            own.number, 0, 0, self.trainer.steps_per_epoch, math.nan, "wait"
        )

    def layers(self) -> LayerMap:
        """The layers of its model."""
        return self._layers

    def progress(self) -> PeerProgress:
        """Where it is now; may be asked at any time."""
        return self._progress

    def train(self, round: int) -> PeerReport:
        """Train one epoch, then rank validation where it is due."""
        seconds = {}
        started = time.perf_counter()
        steps = self.trainer.steps_per_epoch
        self._tell(PeerProgress(self.number, round, 0, steps, math.nan, "train"))
        epoch = self.trainer.train_epoch(
            round,
            lambda step, steps, loss: self._tell(
                PeerProgress(self.number, round, step, steps, loss, "train")
            ),
        )
        seconds["train"] = time.perf_counter() - started
        validation = None
        if self._validates(round):
            started = time.perf_counter()
            self._tell(PeerProgress(self.number, round, steps, steps, epoch.loss, "rank"))
            validation = metrics_of(self.trainer.rank("validation"))
            seconds["rank"] = time.perf_counter() - started
        self._tell(PeerProgress(self.number, round, steps, steps, epoch.loss, "exchange"))
        return PeerReport(
            self.number, epoch.loss, epoch.learning_rate, epoch.positions, validation, seconds
        )

    def save_best(self) -> None:
        """Put the present weights into the run's folder of the kept model."""
        save_weights(self.trainer.model, self.best)

    def statistics(self, layers: Sequence[str]) -> LayerStatistics:
        """The rule's criterion for the weight of each layer; empty if the rule measures none."""
        if (criterion := self.rule.measure) is None:
            return {}
        tensors = layer_tensors(self.trainer.model)
        return {name: criterion.measure(tensors[self._layers[name].weight]) for name in layers}

    def export(self, layers: Sequence[str]) -> LayerArrays:
        """The travelling tensors of some layers, as views of the present weights on a CPU."""
        tensors = layer_tensors(self.trainer.model)
        return {
            name: tensors[name].cpu().numpy()
            for layer in layers
            for name in travelling(self._layers[layer], self.rule)
        }

    def weights(self) -> LayerArrays:
        """All tensors of the model, as views of the present weights on a CPU."""
        return {n: t.cpu().numpy() for n, t in layer_tensors(self.trainer.model).items()}

    def graft(self, transfer: Transfer, received: LayerArrays) -> Graft:
        """Mix what a donor exported into the present weights, as the transfer says.

        `received` is only read: it may lie in memory that other receivers share.
        """
        started = time.perf_counter()
        tensors = layer_tensors(self.trainer.model)
        for layer, keep in transfer.keep.items():
            for name in travelling(self._layers[layer], self.rule):
                own_T = tensors[name]
                donor_T = _shared_tensor(received[name]).to(own_T.device)
                own_T.copy_(self.rule.mix(own_T, donor_T, keep))
        moved = sum(array.nbytes for array in received.values())
        return Graft(moved, time.perf_counter() - started)

    def rank_selected(self, hold_out: HoldOut) -> Int32Array:
        """int32 ``[users]``: ranks under the kept model, as it lies in the run's folder."""
        return self.trainer.rank_saved(self.best, hold_out)

    def _validates(self, round: int) -> bool:
        options = self.trainer.options
        return round % options.validate_every == 0 or round == options.epochs

    def _tell(self, progress: PeerProgress) -> None:
        self._progress = progress
        if self._on_progress is not None:
            self._on_progress()


def _shared_tensor(array: np.ndarray) -> Tensor:
    """A tensor over the array's own memory, which may be read-only and is not written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
