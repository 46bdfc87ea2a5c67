"""What training minimises: the loss that the options name, with the negatives that it needs."""

import numpy as np
import torch
from torch import Tensor

from peercollab.data.sequences import Histories
from peercollab.data.split import training_counts
from peercollab.training.gbce import gbce
from peercollab.training.loss import full_cross_entropy
from peercollab.training.negatives import NegativeSampler
from peercollab.training.options import TrainingOptions
from peercollab.training.sampled_softmax import sampled_softmax


class Objective:
    """A loss over the whole catalogue, or over negatives that are drawn for every step.

    Parameters
    ----------
    options
        Which loss, and its settings.
    histories
        What popularity is counted from.
    device
        Where the loss is computed.

    Raises
    ------
    PeercollabError
        Negatives are wanted, and the catalogue has too few items.
    """

    def __init__(
        self, options: TrainingOptions, histories: Histories, device: torch.device
    ) -> None:
        self._loss = options.loss
        self._calibration = options.gbce_calibration
        if self._loss != "full":
            self._sampler = NegativeSampler(training_counts(histories), options.loss_negatives)
            self._log_q_V = self._sampler.log_q_V.to(device)

    def draw(self, targets_N: Tensor, generator: np.random.Generator) -> Tensor | None:
        """The step's negatives, if there are any, for int64 targets ``[positions]``; on the CPU."""
        match self._loss:
            case "sampled":
                return self._sampler.by_popularity(generator)
            case "gbce":
                return self._sampler.uniform(generator, targets_N)
            case "full":
                return None

    def __call__(
        self,
        hidden_ND: Tensor,
        table_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        negatives: Tensor | None,
    ) -> Tensor:
        """Mean loss over positions (nats; of gbce over positions and items scored): a scalar."""
        if negatives is None:
            return full_cross_entropy(hidden_ND, table_VD, bias_V, targets_N)
        if self._loss == "sampled":
            return sampled_softmax(hidden_ND, table_VD, bias_V, targets_N, negatives, self._log_q_V)
        return gbce(hidden_ND, table_VD, bias_V, targets_N, negatives, self._calibration)
