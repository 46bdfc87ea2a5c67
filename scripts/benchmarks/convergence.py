"""Whether the fast way learns what the plain reference learns: both trained alike, seed by seed."""

import torch

from peercollab.data.split import queries, training_spans
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.metrics import SELECTION_METRIC, metrics_of
from peercollab.training.options import TrainingOptions
from peercollab.training.trainer import Trainer
from scripts.benchmarks.measure import ratios, spread
from scripts.benchmarks.report import Row
from scripts.benchmarks.setting import Setting
from tests.reference.lists import lists_of
from tests.reference.plain_model import PlainSASRec
from tests.reference.plain_ranking import plain_metrics, plain_ranks
from tests.reference.plain_training import PlainTrainer

PART = "convergence"
LEARNING_RATE = 1e-3


def measure(setting: Setting) -> list[Row]:
    """Rows on validation after the same number of epochs, from the same initial weights."""
    ours, plain = [], []
    for seed in range(1, setting.sizes.convergence_seeds + 1):
        one, other = _ours(setting, seed), _plain(setting, seed)
        setting.say(f"seed {seed}: {SELECTION_METRIC} {one:.4f}, plain {other:.4f}")
        ours.append(one)
        plain.append(other)
    what = f"after {setting.sizes.convergence_epochs} epochs, over {len(ours)} seeds"
    return [
        Row(PART, f"plain reference {what}", SELECTION_METRIC, spread(plain)),
        Row(
            PART,
            f"validation {what}",
            SELECTION_METRIC,
            spread(ours),
            ratios(ours, plain),
            "the plain reference",
        ),
    ]


def _trainer(setting: Setting, seed: int) -> Trainer:
    sizes = setting.sizes
    return Trainer(
        setting.histories,
        SASRecOptions(hidden_size=sizes.hidden_sizes[0], max_length=sizes.max_length),
        TrainingOptions(epochs=sizes.convergence_epochs, seed=seed),
        stream=1,
        learning_rate=LEARNING_RATE,
        device=setting.device,
    )


def _ours(setting: Setting, seed: int) -> float:
    trainer = _trainer(setting, seed)
    for epoch in range(1, setting.sizes.convergence_epochs + 1):
        trainer.train_epoch(epoch)
    return metrics_of(trainer.rank("validation"))[SELECTION_METRIC]


def _plain(setting: Setting, seed: int) -> float:
    histories, sizes = setting.histories, setting.sizes
    model = PlainSASRec(histories.n_items, sizes.hidden_sizes[0], max_length=sizes.max_length)
    model.copy_from(_trainer(setting, seed).model.state_dict())
    model.to(setting.device)
    sequences = lists_of(histories.items, training_spans(histories))
    with torch.random.fork_rng(), setting.numbers.used(setting.device):
        torch.manual_seed(seed)  # Of its dropout.
        trainer = PlainTrainer(model, sequences, learning_rate=LEARNING_RATE, seed=seed)
        steps = -(-len(trainer.rows) // trainer.batch_size)
        trainer.train(sizes.convergence_epochs * steps)
    asked = queries(histories, "validation")
    ranks = plain_ranks(model, lists_of(histories.items, asked.spans), asked.targets.tolist())
    return plain_metrics(ranks)[SELECTION_METRIC]
