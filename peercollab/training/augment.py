"""Training windows changed a little: cropped, masked, or put out of order.

The three operations of "Contrastive Learning for Sequential Recommendation" (ICDE 2022, arXiv
2010.14395), here not for a second view but to train on.
"""

import numpy as np
import torch

from peercollab.data.batches import Rows, TrainingBatch, training_batch
from peercollab.data.sequences import Int32Array
from peercollab.data.split import Spans
from peercollab.training.diversity import Augmentation

FEWEST_ITEMS = 2


def crop(windows: Spans, share: float, generator: np.random.Generator) -> Spans:
    """A random stretch of each window, shorter by `share`; two items always stay."""
    lengths = windows.lengths
    kept = np.maximum(FEWEST_ITEMS, lengths - np.floor(share * lengths).astype(np.int64))
    starts = windows.starts + generator.integers(0, lengths - kept + 1)
    return Spans(starts, starts + kept)


def augmented_batch(
    items: Int32Array,
    windows: Spans,
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> TrainingBatch:
    """Inputs and targets of training windows under an augmentation; cropping is done before."""
    match augmentation.kind:
        case "reorder":
            order, starts = reordered(windows, augmentation.share, generator)
            return training_batch(items[order], Spans(starts, starts + windows.lengths))
        case "mask":
            return masked(training_batch(items, windows), augmentation.share, generator)
        case _:
            return training_batch(items, windows)


def reordered(
    windows: Spans, share: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The windows' places one after another, a random stretch of each shuffled.

    Returns
    -------
    places
        int64 ``[sum of lengths]``: where each item comes from.
    starts
        int64 ``[windows]``: where each window begins among these.
    """
    lengths = windows.lengths
    starts = np.cumsum(lengths) - lengths
    row = np.repeat(np.arange(len(windows)), lengths)
    column = np.arange(len(row)) - starts[row]
    shuffled = np.floor(share * lengths).astype(np.int64)
    first = generator.integers(0, lengths - shuffled + 1)
    inside = (column >= first[row]) & (column < (first + shuffled)[row])
    # Inside the stretch a random key, outside the place itself: a stable sort moves these alone.
    key = np.where(inside, first[row] + generator.random(len(row)) * shuffled[row], column)
    # A key inside lies at or above the stretch's first place and below the place behind it.
    order = np.lexsort((key, row))
    return (windows.starts[row] + column)[order], starts


def masked(batch: TrainingBatch, share: float, generator: np.random.Generator) -> TrainingBatch:
    """The batch with a random share of each row's inputs hidden; the targets stay."""
    rows = batch.rows
    lengths = rows.lengths_B.numpy()
    n_hidden = np.floor(share * lengths).astype(np.int64)
    key = generator.random(tuple(rows.items_BL.shape))
    key[np.arange(key.shape[1]) >= lengths[:, None]] = np.inf
    place = key.argsort(axis=1).argsort(axis=1)
    hidden = torch.from_numpy(place < n_hidden[:, None])
    return TrainingBatch(Rows(rows.items_BL, rows.lengths_B, hidden), batch.real_N, batch.targets_N)
