"""What a model learns from: windows of histories, or pairs of user and item."""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch

from peercollab.data.batches import Rows, TrainingBatch, of_like_length
from peercollab.data.sequences import Histories, Int32Array, Int64Array
from peercollab.data.split import Spans, training_spans, windows
from peercollab.errors import PeercollabError
from peercollab.models.model import ModelSettings, TargetsOf
from peercollab.training.augment import augmented_batch, crop
from peercollab.training.diversity import Augmentation

NO_AUGMENTATION = Augmentation()


class Examples(Protocol):
    """What an epoch goes through once, in whatever order."""

    def __len__(self) -> int: ...

    def of_epoch(self, generator: np.random.Generator) -> Self:
        """Those of one epoch, where they are drawn anew in each."""

    def batch(self, chosen: Int64Array, generator: np.random.Generator) -> list[TrainingBatch]:
        """Some of them, by their numbers, in parts that are padded little."""


@dataclass(frozen=True)
class WindowExamples:
    """Windows of histories: the items, and which stretches of them."""

    items: Int32Array
    windows: Spans
    targets: TargetsOf
    augmentation: Augmentation

    def __len__(self) -> int:
        return len(self.windows)

    def of_epoch(self, generator: np.random.Generator) -> Self:
        if self.augmentation.kind != "crop":
            return self
        return replace(self, windows=crop(self.windows, self.augmentation.share, generator))

    def batch(self, chosen: Int64Array, generator: np.random.Generator) -> list[TrainingBatch]:
        windows = self.windows.take(chosen)
        parts = [
            augmented_batch(self.items, windows.take(rows), self.augmentation, generator)
            for rows in of_like_length(windows.lengths)
        ]
        return [part.with_last_targets() for part in parts] if self.targets == "last" else parts


@dataclass(frozen=True)
class PairExamples:
    """Pairs of user and item, each pair once: int64 ``[pairs]``, int32 ``[pairs]``."""

    users: Int64Array
    items: Int32Array

    def __len__(self) -> int:
        return len(self.users)

    def of_epoch(self, generator: np.random.Generator) -> Self:
        return self

    def batch(self, chosen: Int64Array, generator: np.random.Generator) -> list[TrainingBatch]:
        ones_B = torch.ones(len(chosen), dtype=torch.int64)
        rows = Rows(
            torch.zeros(len(chosen), 1, dtype=torch.int64),
            ones_B,
            users_B=torch.from_numpy(self.users[chosen]),
        )
        targets_N = torch.from_numpy(self.items[chosen].astype(np.int64))
        return [TrainingBatch(rows, torch.arange(len(chosen)), targets_N)]


def make_examples(
    histories: Histories,
    model: ModelSettings,
    targets: TargetsOf = "every",
    augmentation: Augmentation = NO_AUGMENTATION,
) -> Examples:
    """What a model learns from in histories, without the items held out.

    Raises
    ------
    PeercollabError
        There is nothing to learn from.
    """
    spans = training_spans(histories)
    if not model.of_users:
        found = windows(spans, model.window)
        if not len(found):
            raise PeercollabError(
                "no user has two items to train on: after leaving two out, a history needs 4 or "
                "more interactions"
            )
        return WindowExamples(histories.items, found, targets, augmentation)
    users, items = pairs(histories)
    # Who has all items has none that could be told from them.
    keep = np.bincount(users, minlength=histories.n_users)[users] < histories.n_items
    if not keep.any():
        raise PeercollabError("every user has all items: there is nothing to tell apart")
    return PairExamples(users[keep], items[keep])


def pairs(histories: Histories) -> tuple[Int64Array, Int32Array]:
    """User and item of all training interactions, each pair once: ordered by user, then item."""
    user_S, item_S = training_spans(histories).flat(histories.items)
    key = np.unique(user_S * histories.n_items + item_S)
    return key // histories.n_items, (key % histories.n_items).astype(np.int32)
