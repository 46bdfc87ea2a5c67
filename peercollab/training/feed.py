"""What a peer trains on, step by step, each step made ready while the one before it is at work."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from peercollab.data.batches import TrainingBatch, shuffled, to_device
from peercollab.data.sequences import Int64Array
from peercollab.training.examples import Examples
from peercollab.training.objective import Objective
from peercollab.training.streams import Purpose


@dataclass(frozen=True)
class Step:
    """A batch on the device, in parts that are padded little, and what its loss needs.

    Attributes
    ----------
    parts
        The rows of the batch, those of like length together.
    targets_N
        int64: the targets of all parts, one after another.
    negatives
        Those of the step, if the loss wants any.
    """

    parts: list[TrainingBatch]
    targets_N: Tensor
    negatives: Tensor | None


class Feed:
    """The steps of every epoch, in an order that the epoch's number decides.

    A thread of its own makes the next step ready, and behind an epoch's last one the next epoch's
    first, so that this is done while peers rank and exchange.

    Parameters
    ----------
    examples
        What an epoch goes through.
    batch_size
        How many of them a step has, at most.
    objective
        Draws the negatives.
    seed
        The seed of a purpose in an epoch.
    device
        Where the steps are wanted.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        objective: Objective,
        seed: Callable[[Purpose, int], int],
        device: torch.device,
    ) -> None:
        self._examples = examples
        self._batch_size = batch_size
        self._objective = objective
        self._seed = seed
        self._device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._epoch = 0
        self._ahead: tuple[int, Future[_Epoch]] | None = None
        self._current: _Epoch | None = None
        self._next: tuple[int, Future[Step]] | None = None
        self.steps_per_epoch = -(-len(examples) // batch_size)

    def begin(self, epoch: int) -> None:
        """Make ready for epoch number `epoch`, from 1; steps of another one are forgotten."""
        if self._ahead is None or self._ahead[0] != epoch:
            self._look_ahead(epoch)
        assert self._ahead is not None
        self._epoch, self._current = epoch, self._ahead[1].result()
        self._ahead = None
        self._make_ready(0)

    def step(self, number: int) -> Step:
        """Step `number` of the epoch, from 0; they are asked for in order."""
        assert self._next is not None, "an epoch must have begun, with steps left"
        ready, step = self._next
        assert number == ready, f"step {number} was asked for, and step {ready} is next"
        made = step.result()
        if number + 1 < self.steps_per_epoch:
            self._make_ready(number + 1)
        else:
            self._next = None
            self._look_ahead(self._epoch + 1)
        return made

    def _make_ready(self, number: int) -> None:
        assert self._current is not None
        self._next = number, self._thread.submit(self._make, self._current, number)

    def _look_ahead(self, epoch: int) -> None:
        self._ahead = epoch, self._thread.submit(self._plan, epoch)

    def _plan(self, epoch: int) -> "_Epoch":
        augmenting = np.random.default_rng(self._seed("augmentation", epoch))
        examples = self._examples.of_epoch(augmenting)
        order = np.random.default_rng(self._seed("order", epoch))
        return _Epoch(
            examples,
            shuffled(len(examples), self._batch_size, order),
            augmenting,
            np.random.default_rng(self._seed("negatives", epoch)),
        )

    def _make(self, epoch: "_Epoch", number: int) -> Step:
        parts = epoch.examples.batch(epoch.batches[number], epoch.augmenting)
        targets_N = torch.cat([part.targets_N for part in parts])
        negatives = self._objective.draw(parts, targets_N, epoch.negatives)
        return Step(
            [part.to(self._device) for part in parts],
            to_device(targets_N, self._device),
            None if negatives is None else to_device(negatives, self._device),
        )


@dataclass(frozen=True)
class _Epoch:
    """An epoch's order, and the generators that its steps draw from, one after another."""

    examples: Examples
    batches: list[Int64Array]
    augmenting: np.random.Generator
    negatives: np.random.Generator
