"""Averages of a peer's weights over its training, ranked and kept in place of the weights.

Training goes on from the weights themselves, whatever is averaged beside it.
"""

import copy
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from peercollab.models.model import SequenceModel
from peercollab.training.options import TrainingOptions
from peercollab.training.soup import Weights, uniform_soup

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

    def after_epoch(self) -> None:
        """Take in the weights at the end of an epoch, which are finite."""

    def state(self) -> AverageState:
        """All that it remembers, on the CPU; what comes later does not write to it."""
        return {}

    def restore(self, state: AverageState) -> None:
        """Go back to a state; it may be restored again."""


class ExponentialMovingAverage(Averaging):
    """After every step the average moves towards the weights, by 1 less the decay.

    After ``t`` steps the decay is at most ``(1 + t) / (10 + t)``, as TensorFlow has it
    (``num_updates`` of ``tf.train.ExponentialMovingAverage``): the first weights are soon
    forgotten, and a short training averages over the last part of it, too.

    Parameters
    ----------
    model
        The model that is trained.
    decay
        What it comes to in the end, from 0 up to, not including, 1.
    """

    def __init__(self, model: SequenceModel, decay: float) -> None:
        super().__init__(model)
        self._decay = decay
        self._average = copy.deepcopy(model)
        # No tensor, unlike that of torch's AveragedModel, for which a GPU is waited for each step.
        self._steps = 0

    @property
    def ranked(self) -> SequenceModel:
        return self._average

    @torch.no_grad()
    def after_step(self) -> None:
        # The first weights are taken as they are.
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._steps else 0.0
        self._steps += 1
        averages: list[Tensor] = []
        latest: list[Tensor] = []
        for average, own in zip(_tensors(self._average), _tensors(self._own), strict=True):
            if own.is_floating_point():
                averages.append(average)
                latest.append(own)
            else:
                average.copy_(own)
        get_ema_multi_avg_fn(decay)(averages, latest, None)

    def state(self) -> AverageState:
        return {"steps": self._steps, "weights": _on_cpu(self._average)}

    def restore(self, state: AverageState) -> None:
        self._steps = state["steps"]
        self._average.load_state_dict(state["weights"])


class WindowAverage(Averaging):
    """The mean of the weights at the ends of the last epochs; buffers are the last epoch's.

    Stochastic weight averaging (Izmailov et al., "Averaging Weights Leads to Wider Optima and
    Better Generalization", UAI 2018, arXiv 1803.05407) over a sliding window, as in LAWA (Kaddour,
    "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight Averaging",
    2022, arXiv 2209.14981). Before the first epoch has ended the weights themselves are ranked.

    Parameters
    ----------
    model
        The model that is trained.
    length
        Epochs in the window; at the beginning there are fewer.
    """

    def __init__(self, model: SequenceModel, length: int) -> None:
        super().__init__(model)
        self._mean = copy.deepcopy(model)
        self._buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
        # Nobody writes to what is in it, so that states can share it.
        self._window = deque[Weights](maxlen=length)

    @property
    def ranked(self) -> SequenceModel:
        return self._mean if self._window else self._own

    def after_epoch(self) -> None:
        self._window.append(_on_cpu(self._own))
        self._update_mean()

    def state(self) -> AverageState:
        return {"window": list(self._window)}

    def restore(self, state: AverageState) -> None:
        self._window = deque(state["window"], self._window.maxlen)
        self._update_mean()

    def _update_mean(self) -> None:
        """From the whole window: a mean that is moved would depend on what it was before."""
        if self._window:
            latest = self._window[-1]
            # A soup takes what is no fraction from the first.
            mean = uniform_soup(list(reversed(self._window)))
            kept = {name: latest[name] for name in self._buffers & latest.keys()}
            self._mean.load_state_dict({**mean, **kept})


def choose_averaging(options: TrainingOptions, model: SequenceModel) -> Averaging:
    """The average that the options ask for."""
    if options.ema:
        return ExponentialMovingAverage(model, options.ema)
    if options.swa:
        return WindowAverage(model, options.swa)
    return Averaging(model)


def _tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once."""
    return [*model.parameters(), *model.buffers()]


def _on_cpu(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's state in the CPU's memory."""
    return {
        name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()
    }
