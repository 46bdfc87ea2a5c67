"""What a window teaches: every item given those before it, or its last one alone."""

from dataclasses import replace

import numpy as np
import torch

from peercollab.data.batches import training_batch
from peercollab.data.split import Spans
from tests.training.walks import OPTIONS, trainer


def test_with_last_targets_only_the_end_of_each_window_is_left() -> None:
    items = np.arange(20, dtype=np.int32)
    batch = training_batch(items, Spans(np.array([0, 6, 11]), np.array([5, 8, 14])))
    last = batch.with_last_targets()
    assert last.targets_N.tolist() == [4, 7, 13]
    # Inputs are 0 1 2 3, 6, and 11 12, each padded to four positions.
    assert last.real_N.tolist() == [3, 4, 9]
    places = last.rows.items_BL.flatten()[last.real_N]
    assert places.tolist() == [3, 6, 12]
    assert torch.equal(last.rows.items_BL, batch.rows.items_BL)


def test_learning_from_last_items_alone_sees_one_position_of_each_window() -> None:
    every, last = trainer(), trainer(replace(OPTIONS, targets="last"))
    first, second = every.train_epoch(1), last.train_epoch(1)
    assert second.positions == len(last.feed._examples) < first.positions
    assert first.loss != second.loss
