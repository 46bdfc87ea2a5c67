"""Averages of a peer's weights over its training, ranked and kept in place of the weights.

Training goes on from the weights themselves, whatever is averaged beside it.
"""

from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from peercollab.models.model import SequenceModel
from peercollab.training.options import TrainingOptions

AverageState = dict[str, Any]


class Averaging:
    """No average: what is ranked is the model that is trained.

    Parameters
    ----------
    model
        The model that is trained.
    """

    def __init__(self, model: SequenceModel) -> None:
        self._own = model

    @property
    def ranked(self) -> SequenceModel:
        """The model that is ranked and kept."""
        return self._own

    def after_step(self) -> None:
        """Take in the weights after a step of training."""

    def state(self) -> AverageState:
        """All that it remembers, on the CPU; what comes later does not write to it."""
        return {}

    def restore(self, state: AverageState) -> None:
        """Go back to a state; it may be restored again."""


class ExponentialMovingAverage(Averaging):
    """After every step the average moves towards the weights, by 1 less the decay."""

    def __init__(self, model: SequenceModel, decay: float) -> None:
        super().__init__(model)
        self._average = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
        )

    @property
    def ranked(self) -> SequenceModel:
        average: SequenceModel = self._average.module  # type: ignore[assignment]
        return average

    def after_step(self) -> None:
        self._average.update_parameters(self._own)

    def state(self) -> AverageState:
        return _on_cpu(self._average)

    def restore(self, state: AverageState) -> None:
        self._average.load_state_dict(state)


def choose_averaging(options: TrainingOptions, model: SequenceModel) -> Averaging:
    """The average that the options ask for."""
    if options.ema:
        return ExponentialMovingAverage(model, options.ema)
    return Averaging(model)


def _on_cpu(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's state in the CPU's memory."""
    return {
        name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()
    }
