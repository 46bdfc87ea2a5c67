"""One peer's work in plain torch: train an epoch, rank what was held out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from peercollab.data.batches import bucketed_order, training_batch
from peercollab.data.sequences import Histories, Int32Array
from peercollab.data.split import HoldOut, queries, training_spans, windows
from peercollab.errors import PeercollabError
from peercollab.models.build import build_model
from peercollab.models.model import SequenceModel
from peercollab.models.sasrec import SASRecOptions
from peercollab.models.saved import load_model
from peercollab.training.loss import full_cross_entropy
from peercollab.training.options import TrainingOptions
from peercollab.training.schedule import scheduled_learning_rate
from peercollab.training.scoring import ModelScorer, rank_targets
from peercollab.training.streams import SHARED_STREAM, Purpose, stream_seed

# Reading the loss makes a GPU wait, so it is read once in so many steps.
STEPS_A_LOOK = 20

OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean loss per position (nats), positions, the last learning rate."""

    loss: float
    positions: int
    learning_rate: float


class Trainer:
    """A model with its optimizer, on its data.

    Every epoch draws its order and dropout from streams that depend on seed, stream and epoch
    alone. On a CPU, the same streams and number of threads give the same weights bit for bit.

    Parameters
    ----------
    histories
        All interactions; the held-out items are left out of training here.
    model_options, options
        The network, and how it is trained.
    stream
        Which stream of random numbers this trainer draws from.
    learning_rate
        The rate at which the schedule begins.
    device
        Where the model lives.

    Raises
    ------
    PeercollabError
        No history is long enough to train on.
    """

    def __init__(
        self,
        histories: Histories,
        model_options: SASRecOptions,
        options: TrainingOptions,
        *,
        stream: int,
        learning_rate: float,
        device: torch.device,
    ) -> None:
        self.histories = histories
        self.options = options
        self.stream = stream
        self.learning_rate = learning_rate
        self.device = device
        first = SHARED_STREAM if options.init == "shared" else stream
        seed = stream_seed(options.seed, first, "initialisation")
        self.model = build_model(histories.n_items, model_options, seed).to(device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.windows = windows(training_spans(histories), model_options.max_length)
        if not len(self.windows):
            raise PeercollabError(
                "no user has two items to train on: after leaving two out, a history needs 4 or "
                "more interactions"
            )
        self.steps_per_epoch = -(-len(self.windows) // options.batch_size)

    def train_epoch(self, epoch: int, on_step: OnStep | None = None) -> Epoch:
        """Train epoch number `epoch` (from 1) and say how it went.

        Parameters
        ----------
        epoch
            Its number fixes order, dropout and learning rates.
        on_step
            Called every few steps with the step, the steps in all, and the mean loss so far.

        Raises
        ------
        PeercollabError
            The loss or a weight is not a finite number.
        """
        self.model.train()
        generator = np.random.default_rng(self._seed("order", epoch))
        batches = bucketed_order(self.windows.lengths, self.options.batch_size, generator)
        loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        positions = 0
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self._seed("dropout", epoch))
            for step, rows in enumerate(batches):
                self._set_learning_rate((epoch - 1) * self.steps_per_epoch + step)
                batch = training_batch(self.histories.items, self.windows.take(rows))
                batch = batch.to(self.device)
                hidden_ND = self.model(batch.rows).flatten(0, 1)[batch.real_N]
                loss = full_cross_entropy(hidden_ND, *self.model.item_table(), batch.targets_N)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()
                loss_sum += loss.detach() * len(batch.targets_N)
                positions += len(batch.targets_N)
                if (step + 1) % STEPS_A_LOOK == 0 or step + 1 == len(batches):
                    mean = self._finite(loss_sum.item() / positions, epoch, step + 1)
                    if on_step is not None:
                        on_step(step + 1, len(batches), mean)
        # The last step's loss is that of the weights before it.
        if not all(weight.isfinite().all() for weight in self.model.parameters()):
            raise self._diverged("weights became NaN or infinite in the last step", epoch)
        return Epoch(mean, positions, self.optimizer.param_groups[0]["lr"])

    def rank(self, hold_out: HoldOut) -> Int32Array:
        """int32 ``[users]``: the rank of every user's held-out item under the present weights."""
        return self._rank(self.model.eval(), hold_out)

    def rank_saved(self, folder: Path, hold_out: HoldOut) -> Int32Array:
        """The same under a saved model; the trainer's own weights stay as they are."""
        return self._rank(load_model(folder, self.device), hold_out)

    def _rank(self, model: SequenceModel, hold_out: HoldOut) -> Int32Array:
        return rank_targets(
            ModelScorer(model, self.device),
            self.histories.items,
            queries(self.histories, hold_out),
            keep_seen=self.options.keep_seen,
        )

    def _seed(self, purpose: Purpose, epoch: int) -> int:
        return stream_seed(self.options.seed, self.stream, purpose, epoch)

    def _set_learning_rate(self, step: int) -> None:
        rate = scheduled_learning_rate(
            self.learning_rate,
            self.options.schedule,
            step,
            self.options.epochs * self.steps_per_epoch,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _finite(self, loss: float, epoch: int, step: int) -> float:
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss} by step {step}", epoch)
        return loss

    def _diverged(self, sign: str, epoch: int) -> PeercollabError:
        return PeercollabError(
            f"{sign} of epoch {epoch} (stream {self.stream}, learning rate "
            f"{self.learning_rate:g}): train again with a lower --lr"
        )
