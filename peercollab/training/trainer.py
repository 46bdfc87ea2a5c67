"""One peer's work in plain torch: train an epoch, rank what was held out."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peercollab.data.sequences import Histories, Int32Array
from peercollab.data.split import HoldOut, queries
from peercollab.errors import DivergedError
from peercollab.models.build import build_model
from peercollab.models.model import ModelSettings, SequenceModel
from peercollab.models.saved import load_model
from peercollab.training.averaging import AverageState, choose_averaging
from peercollab.training.compiled import compiled
from peercollab.training.diversity import Augmentation
from peercollab.training.examples import NO_AUGMENTATION, make_examples
from peercollab.training.feed import Feed
from peercollab.training.growth import is_finite, largest_weight
from peercollab.training.importance import Importance
from peercollab.training.objective import Objective
from peercollab.training.optimizer import Adam
from peercollab.training.options import TrainingOptions
from peercollab.training.precision import choose
from peercollab.training.schedule import scheduled_learning_rate
from peercollab.training.scoring import ModelScorer, OnRows, rank_targets
from peercollab.training.streams import SHARED_STREAM, TorchStream, stream_seed

# Reading the loss makes a GPU wait, so it is read once in so many steps.
STEPS_A_LOOK = 20

OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean loss per position (nats), positions, the last learning rate."""

    loss: float
    positions: int
    learning_rate: float


@dataclass(frozen=True)
class TrainerState:
    """A trainer at one moment between epochs: state dicts of its parts, on the CPU."""

    model: dict[str, Any]
    optimizer: list[dict[str, Any]]
    average: AverageState


class Trainer:
    """A model with its optimizer, on its data.

    Every epoch draws its order and dropout from streams that depend on seed, stream and epoch
    alone. On a CPU, the same streams and number of threads give the same weights bit for bit.

    Parameters
    ----------
    histories
        All interactions; the held-out items are left out of training here.
    model_settings, options
        The network, and how it is trained; what `options` leave open is as the network says.
    stream
        Which stream of random numbers this trainer draws from.
    learning_rate
        The rate at which the schedule begins.
    device
        Where the model lives.
    augmentation
        What is done to the training windows.
    measure_importance
        Whether `importance` is kept up while training.

    Raises
    ------
    PeercollabError
        There is nothing to train on, or the network cannot be trained so.
    """

    def __init__(
        self,
        histories: Histories,
        model_settings: ModelSettings,
        options: TrainingOptions,
        *,
        stream: int,
        learning_rate: float,
        device: torch.device,
        augmentation: Augmentation = NO_AUGMENTATION,
        measure_importance: bool = False,
    ) -> None:
        self.measure_importance = measure_importance
        self.histories = histories
        options = options.of_model(model_settings)
        self.options = options
        self._settings = model_settings
        self.stream = stream
        self.learning_rate = learning_rate
        self.device = device
        # Not a method: the feed holds on to it, and a trainer is to end with its last use.
        self._seed = partial(stream_seed, options.seed, stream)
        first = SHARED_STREAM if options.init == "shared" else stream
        seed = stream_seed(options.seed, first, "initialisation")
        self.model = build_model(histories.n_items, model_settings, seed, histories.n_users)
        self.model.to(device)
        self.numbers = choose(options.precision, device.type)
        self._forward = compiled(self.model, device) if options.compile else self.model
        self.objective = Objective(options, histories, device)
        self.optimizer = Adam(
            self.model,
            self._expect_sparse_gradients() if options.loss == "sampled" else (),
            learning_rate=learning_rate,
            # BPR's own penalty is part of its loss.
            weight_decay=0.0 if options.loss == "bpr" else options.weight_decay,
        )
        self.averaging = choose_averaging(options, self.model)
        self.importance = Importance()
        assert options.batch_size is not None
        self.feed = Feed(
            make_examples(histories, model_settings, options.targets or "every", augmentation),
            options.batch_size,
            self.objective,
            self._seed,
            device,
        )
        self.steps_per_epoch = self.feed.steps_per_epoch

    def begin_epoch(self, epoch: int) -> None:
        """Make ready for epoch number `epoch` (from 1): its number fixes order and dropout."""
        self.feed.begin(epoch)
        self._running = _RunningEpoch(
            number=epoch,
            dropout=TorchStream(self._seed("dropout", epoch), self.device),
            loss_sum=torch.zeros((), device=self.device, dtype=torch.float64),
        )
        self.importance.restart()

    def train_to(self, stop: int, on_step: OnStep | None = None, most: float = math.inf) -> Epoch:
        """Go on with the epoch up to and including step `stop`, and say how it went so far.

        Where an epoch is interrupted makes no difference to what comes out.

        Parameters
        ----------
        stop
            Steps of the epoch that will then be done.
        on_step
            Called every few steps with the step, the steps in all, and the mean loss so far.
        most
            How large a weight may become.

        Raises
        ------
        DivergedError
            The loss or a weight is not a finite number, or a weight is larger than `most`.
        """
        running = self._running
        self.model.train()
        with running.dropout.lent(), self.numbers.rounding(self.device):
            for step in range(running.step, stop):
                self._train_step(running, step)
                if (step + 1) % STEPS_A_LOOK == 0 or step + 1 == self.steps_per_epoch:
                    mean = self._finite(running.mean_loss(), running.number, step + 1)
                    if on_step is not None:
                        on_step(step + 1, self.steps_per_epoch, mean)
        # The last step's loss is that of the weights before it.
        if not self.is_finite():
            raise self._diverged(f"weights became NaN or infinite by step {stop}", running.number)
        if most < math.inf and (largest := largest_weight(self.model)) > most:
            raise self._diverged(
                f"the largest weight came to {largest:.3g}, above {most:.3g}, by step {stop}",
                running.number,
            )
        if running.step < stop == self.steps_per_epoch:
            self.averaging.after_epoch()
        running.step = stop
        return Epoch(running.mean_loss(), running.positions, self.optimizer.learning_rate)

    def train_epoch(self, epoch: int, on_step: OnStep | None = None) -> Epoch:
        """A whole epoch at once: `begin_epoch`, then `train_to` its end."""
        self.begin_epoch(epoch)
        return self.train_to(self.steps_per_epoch, on_step)

    def is_finite(self) -> bool:
        """Whether every weight, and every statistic in a buffer, is a finite number."""
        return is_finite(self.model)

    def moments(self) -> dict[str, tuple[Tensor, ...]]:
        """Adam's two moments of each parameter, in place: writing to one changes the optimizer."""
        return {
            name: moments
            for name, parameter in self.model.named_parameters()
            if (moments := self.optimizer.moments(parameter))
        }

    def forget_moments(self, name: str, changed_T: Tensor) -> None:
        """Set moments of a parameter to 0 where bool `changed_T` says so; buffers have none."""
        if (parameter := dict(self.model.named_parameters()).get(name)) is not None:
            self.optimizer.forget(parameter, changed_T)

    def importances(self) -> Mapping[str, Tensor]:
        """Of each parameter the mean ``|weight * gradient|`` of the epoch so far."""
        return self.importance.means()

    def state(self) -> TrainerState:
        """A copy of all that an epoch changes, in the CPU's memory."""
        return TrainerState(
            _copied(self.model.state_dict()),
            _copied(self.optimizer.state_dict()),
            self.averaging.state(),
        )

    def restore(self, state: TrainerState) -> None:
        """Go back to a state; it may be restored again."""
        self.model.load_state_dict(state.model)
        # The optimizer would go on to write into the tensors that it is given.
        self.optimizer.load_state_dict(_copied(state.optimizer))
        self.averaging.restore(state.average)

    @property
    def ranked(self) -> SequenceModel:
        """The model that is ranked and kept: the average of weights where there is one."""
        return self.averaging.ranked

    def _expect_sparse_gradients(self) -> list[Tensor]:
        """Let embeddings of items have sparse gradients; all parameters that then have some."""
        if not self.model.has_sparse_table:
            return []
        embeddings = self.model.item_embeddings()
        for embedding in embeddings:
            embedding.sparse = True
        table_VD, bias_V = self.model.item_table()
        tensors = [*(embedding.weight for embedding in embeddings), table_VD, bias_V]
        # A tied table is an embedding's own weight.
        return list({id(tensor): tensor for tensor in tensors if tensor is not None}.values())

    def _train_step(self, running: "_RunningEpoch", step: int) -> None:
        self._set_learning_rate((running.number - 1) * self.steps_per_epoch + step)
        now = self.feed.step(step)
        with self.numbers.casting(self.device):
            hidden_ND = torch.cat(
                [self._forward(part.rows).flatten(0, 1)[part.real_N] for part in now.parts]
            )
            loss = self.objective(self.model, hidden_ND, now.targets_N, now.negatives)
        self.optimizer.zero_grad()
        loss.backward()
        if self.measure_importance:
            self.importance.add(self.model)
        self.optimizer.step()
        self.averaging.after_step()
        running.loss_sum += loss.detach() * len(now.targets_N)
        running.positions += len(now.targets_N)

    def rank(self, hold_out: HoldOut, on_rows: OnRows | None = None) -> Int32Array:
        """int32 ``[users]``: the rank of every user's held-out item under the present weights.

        `on_rows` is called as in `rank_targets`.
        """
        return self._rank(self.ranked.eval(), hold_out, on_rows)

    def rank_weights(
        self, weights: Mapping[str, Tensor], hold_out: HoldOut, on_rows: OnRows | None = None
    ) -> Int32Array:
        """The same under other weights of the same model; the trainer's own stay as they are."""
        model = copy.deepcopy(self.ranked)
        model.load_state_dict(weights)
        return self._rank(model.eval(), hold_out, on_rows)

    def rank_saved(
        self, folder: Path, hold_out: HoldOut, on_rows: OnRows | None = None
    ) -> Int32Array:
        """The same under a saved model; the trainer's own weights stay as they are."""
        return self._rank(load_model(folder, self.device, self._settings), hold_out, on_rows)

    def _rank(
        self, model: SequenceModel, hold_out: HoldOut, on_rows: OnRows | None = None
    ) -> Int32Array:
        return rank_targets(
            ModelScorer(model, self.device),
            self.histories.items,
            queries(self.histories, hold_out),
            keep_seen=self.options.keep_seen,
            on_rows=on_rows,
        )

    def _set_learning_rate(self, step: int) -> None:
        rate = scheduled_learning_rate(
            self.learning_rate,
            self.options.schedule,
            step,
            self.options.epochs * self.steps_per_epoch,
        )
        self.optimizer.learning_rate = rate

    def _finite(self, loss: float, epoch: int, step: int) -> float:
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss} by step {step}", epoch)
        return loss

    def _diverged(self, sign: str, epoch: int) -> DivergedError:
        return DivergedError(
            f"{sign} of epoch {epoch} (stream {self.stream}, learning rate "
            f"{self.learning_rate:g}): train again with a lower --lr"
        )


@dataclass
class _RunningEpoch:
    """How far an epoch has come."""

    number: int
    dropout: TorchStream
    loss_sum: Tensor
    positions: int = 0
    step: int = 0

    def mean_loss(self) -> float:
        return self.loss_sum.item() / max(self.positions, 1)


def _copied(state: Any) -> Any:
    """A state dict, however deep, with copies of its tensors on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_copied(value) for value in state]
    return copy.deepcopy(state)
