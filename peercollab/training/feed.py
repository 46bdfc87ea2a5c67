"""What a peer trains on, step by step, each step made ready while the one before it is at work."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from peercollab.data.batches import TrainingBatch, of_like_length, shuffled, to_device
from peercollab.data.sequences import Histories, Int64Array
from peercollab.data.split import Spans, training_spans, windows
from peercollab.errors import PeercollabError
from peercollab.training.augment import augmented_batch, crop
from peercollab.training.diversity import Augmentation
from peercollab.training.objective import Objective
from peercollab.training.streams import Purpose


@dataclass(frozen=True)
class Step:
    """A batch on the device, in parts that are padded little, and what its loss needs.

    Attributes
    ----------
    parts
        The windows of the batch, those of like length together.
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
    histories
        All interactions; the held-out items are left out here.
    max_length, batch_size
        Positions of a window and windows of a batch, at most.
    augmentation
        What is done to the windows.
    objective
        Draws the negatives.
    seed
        The seed of a purpose in an epoch.
    device
        Where the steps are wanted.

    Raises
    ------
    PeercollabError
        No history is long enough to train on.
    """

    def __init__(
        self,
        histories: Histories,
        max_length: int,
        batch_size: int,
        augmentation: Augmentation,
        objective: Objective,
        seed: Callable[[Purpose, int], int],
        device: torch.device,
    ) -> None:
        self._items = histories.items
        self._windows = windows(training_spans(histories), max_length)
        if not len(self._windows):
            raise PeercollabError(
                "no user has two items to train on: after leaving two out, a history needs 4 or "
                "more interactions"
            )
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._objective = objective
        self._seed = seed
        self._device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._epoch = 0
        self._ahead: tuple[int, Future[_Epoch]] | None = None
        self._current: _Epoch | None = None
        self._next: tuple[int, Future[Step]] | None = None
        self.steps_per_epoch = -(-len(self._windows) // batch_size)

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
        windows = self._windows
        if self._augmentation.kind == "crop":
            windows = crop(windows, self._augmentation.share, augmenting)
        order = np.random.default_rng(self._seed("order", epoch))
        return _Epoch(
            windows,
            shuffled(len(windows), self._batch_size, order),
            augmenting,
            np.random.default_rng(self._seed("negatives", epoch)),
        )

    def _make(self, epoch: "_Epoch", number: int) -> Step:
        windows = epoch.windows.take(epoch.batches[number])
        parts = [
            augmented_batch(self._items, windows.take(rows), self._augmentation, epoch.augmenting)
            for rows in of_like_length(windows.lengths)
        ]
        targets_N = torch.cat([part.targets_N for part in parts])
        negatives = self._objective.draw(targets_N, epoch.negatives)
        return Step(
            [part.to(self._device) for part in parts],
            to_device(targets_N, self._device),
            None if negatives is None else to_device(negatives, self._device),
        )


@dataclass(frozen=True)
class _Epoch:
    """An epoch's order, and the generators that its steps draw from, one after another."""

    windows: Spans
    batches: list[Int64Array]
    augmenting: np.random.Generator
    negatives: np.random.Generator
