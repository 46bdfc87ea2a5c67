"""How much memory a training step takes with a large catalogue, against whole logits."""

import numpy as np
import torch

from peercollab.data.sequences import Histories
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.options import TrainingOptions
from peercollab.training.trainer import Trainer
from scripts.benchmarks.measure import (
    MEGA,
    added_memory,
    in_fresh_process,
    in_turns,
    ratios,
    spread,
)
from scripts.benchmarks.report import Bar, Row
from scripts.benchmarks.setting import Setting, training_numbers
from tests.reference.plain_model import PlainSASRec
from tests.reference.plain_training import PlainTrainer

PART = "memory"
SHARE_OF_PLAIN = Bar("at most", 1 / 5)

# A step of this size first, so that what the libraries themselves set up is there already.
WARM_ROWS = 4
WARM_ITEMS = 50


def measure(setting: Setting) -> list[Row]:
    """Rows on the peak of one training step above what is held before it, each in a new process."""
    sizes = setting.sizes
    shape = (sizes.memory_items, sizes.memory_rows, sizes.max_length, sizes.hidden_sizes[0])
    how = (setting.device, setting.threads)
    what = f"{sizes.memory_items:,} items, {sizes.memory_rows * sizes.max_length:,} positions"
    setting.say(f"memory of a training step, {what}: MB")
    taken = in_turns(
        setting,
        {
            "ours": lambda: in_fresh_process(_ours, *shape, *how) / MEGA,
            "plain": lambda: in_fresh_process(_plain, *shape, *how) / MEGA,
        },
    )
    return [
        Row(PART, f"a step with whole logits, {what}", "MB", spread(taken["plain"])),
        Row(
            PART,
            f"a training step, {what}",
            "MB",
            spread(taken["ours"]),
            ratios(taken["ours"], taken["plain"]),
            "whole logits",
            SHARE_OF_PLAIN,
        ),
    ]


def _full_rows(n_items: int, rows: int, length: int) -> Histories:
    """Users who fill one training window each, and have two items more to be held out."""
    generator = np.random.default_rng(1)
    items = generator.integers(0, n_items, rows * (length + 3)).astype(np.int32)
    return Histories(items, np.arange(0, len(items) + 1, length + 3), n_items)


def _ours(
    n_items: int, rows: int, length: int, hidden_size: int, device: torch.device, threads: int
) -> float:
    """Bytes that a step of ours adds."""
    torch.set_num_threads(threads)

    def trainer_of(n_items: int, rows: int) -> Trainer:
        trainer = Trainer(
            _full_rows(n_items, rows, length),
            SASRecOptions(hidden_size=hidden_size, max_length=length),
            TrainingOptions(batch_size=rows),
            stream=1,
            learning_rate=1e-3,
            device=device,
        )
        trainer.begin_epoch(1)
        return trainer

    trainer_of(WARM_ITEMS, WARM_ROWS).train_to(1)
    trainer = trainer_of(n_items, rows)
    return added_memory(lambda: trainer.train_to(1), device)


def _plain(
    n_items: int, rows: int, length: int, hidden_size: int, device: torch.device, threads: int
) -> float:
    """Bytes that a step of the plain reference adds."""
    torch.set_num_threads(threads)

    def trainer_of(n_items: int, rows: int) -> PlainTrainer:
        histories = _full_rows(n_items, rows, length)
        sequences = [histories.of(user)[:-2].tolist() for user in range(rows)]
        model = PlainSASRec(n_items, hidden_size, max_length=length).to(device)
        return PlainTrainer(model, sequences, batch_size=rows)

    with training_numbers(device).used(device):
        trainer_of(WARM_ITEMS, WARM_ROWS).train(1)
        trainer = trainer_of(n_items, rows)
        return added_memory(lambda: trainer.train(1), device)
