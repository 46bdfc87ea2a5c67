"""A million items: how fast a peer trains on negatives, and how much memory it holds."""

import time

import torch

from peercollab.models.model import LossName
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.options import TrainingOptions
from peercollab.training.trainer import Trainer
from scripts.benchmarks.measure import (
    MEGA,
    added_memory,
    finish,
    in_fresh_process,
    spread,
    undisturbed,
)
from scripts.benchmarks.report import Row
from scripts.benchmarks.setting import Setting
from scripts.benchmarks.synthetic import synthetic_histories

PART = "catalogue"

NEGATIVES: tuple[LossName, ...] = ("sampled", "gbce")

# What training cannot do without: the weights, and Adam's two moments of each.
NUMBERS_A_WEIGHT = 3


def measure(setting: Setting) -> list[Row]:
    """Rows on speed and peak memory for each loss over negatives, each in a new process."""
    rows = []
    for loss in NEGATIVES:
        rows += _one_loss(setting, loss)
    return rows


def _one_loss(setting: Setting, loss: LossName) -> list[Row]:
    sizes = setting.sizes
    what = f"{sizes.catalogue_items:,} items, --loss {loss}, d {sizes.hidden_sizes[0]}"
    setting.say(f"training, {what}")
    log = (sizes.catalogue_users, sizes.catalogue_items, sizes.catalogue_interactions)
    network = SASRecOptions(hidden_size=sizes.hidden_sizes[0], max_length=sizes.max_length)
    how = (sizes.steps, setting.device, setting.threads)
    taken = undisturbed(
        setting,
        lambda: in_fresh_process(_train, loss, log, network, *how),
        lambda figures: f"{figures['rate']:,.4g} positions/s, {figures['peak'] / MEGA:,.4g} MB",
    )
    held = [figures["peak"] / MEGA for figures in taken]
    least = [NUMBERS_A_WEIGHT * figures["weights"] / MEGA for figures in taken]
    return [
        Row(PART, f"training, {what}", "positions/s", spread([f["rate"] for f in taken])),
        Row(
            PART,
            f"peak memory of a peer, {what}",
            "MB",
            spread(held),
            spread([a / b for a, b in zip(held, least, strict=True)]),
            "its weights and both moments of Adam",
        ),
    ]


def _train(
    loss: LossName,
    log: tuple[int, int, int],
    network: SASRecOptions,
    steps: int,
    device: torch.device,
    threads: int,
) -> dict[str, float]:
    """Positions/s, bytes of the weights, and bytes that the peer added at its peak."""
    torch.set_num_threads(threads)
    histories = synthetic_histories(*log)
    trained: dict[str, float] = {}

    def train() -> None:
        trainer = Trainer(
            histories,
            network,
            TrainingOptions(loss=loss),
            stream=1,
            learning_rate=1e-3,
            device=device,
        )
        trainer.begin_epoch(1)
        # The optimizer's state is made by its first step.
        first = trainer.train_to(1).positions
        finish(device)
        started = time.perf_counter()
        positions = trainer.train_to(min(1 + steps, trainer.steps_per_epoch)).positions
        finish(device)
        trained["rate"] = (positions - first) / (time.perf_counter() - started)
        trained["weights"] = sum(p.nbytes for p in trainer.model.parameters())

    trained["peak"] = added_memory(train, device)
    return trained
