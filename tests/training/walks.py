"""A small log that a network can learn, and trainers on it."""

from typing import Any

import numpy as np
import torch

from peercollab.data.sequences import Histories
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.options import TrainingOptions
from peercollab.training.trainer import Trainer

MODEL = SASRecOptions(hidden_size=16, max_length=8, dropout=0.2)
OPTIONS = TrainingOptions(epochs=3, batch_size=16, seed=5)


def walks(n_users: int = 150, n_items: int = 40, seed: int = 3) -> Histories:
    """Users who walk through the items by steps of one, mostly."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(4, 20, n_users)
    steps = generator.choice([1, 1, 1, 1, 7], lengths.sum())
    items = (np.cumsum(steps) % n_items).astype(np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), n_items)


def trainer(
    options: TrainingOptions = OPTIONS,
    model: SASRecOptions = MODEL,
    histories: Histories | None = None,
    *,
    stream: int = 1,
    learning_rate: float = 1e-3,
    **settings: Any,
) -> Trainer:
    return Trainer(
        histories or walks(),
        model,
        options,
        stream=stream,
        learning_rate=learning_rate,
        device=torch.device("cpu"),
        **settings,
    )
