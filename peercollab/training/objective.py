"""What training minimises: the loss that the options name, with the negatives that it needs."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from peercollab.data.batches import TrainingBatch
from peercollab.data.sequences import Histories
from peercollab.data.split import training_counts
from peercollab.models.model import SequenceModel
from peercollab.training.bpr import OutsideSampler, bpr
from peercollab.training.gbce import gbce
from peercollab.training.loss import full_cross_entropy
from peercollab.training.negatives import NegativeSampler
from peercollab.training.options import TrainingOptions
from peercollab.training.sampled_softmax import sampled_softmax, with_dense_gradient


class Objective:
    """A loss over the whole catalogue, over negatives drawn for every step, or a model's own.

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
        self._weight_decay = options.weight_decay
        if self._loss == "bpr":
            self._outside = OutsideSampler(histories)
        elif self._loss in ("sampled", "gbce"):
            self._sampler = NegativeSampler(training_counts(histories), options.loss_negatives)
            self._log_q_V = self._sampler.log_q_V.to(device)

    def draw(
        self, parts: Sequence[TrainingBatch], targets_N: Tensor, generator: np.random.Generator
    ) -> Tensor | None:
        """The step's negatives, if there are any, for int64 targets ``[positions]``; on the CPU."""
        match self._loss:
            case "sampled":
                return self._sampler.by_popularity(generator)
            case "gbce":
                return self._sampler.uniform(generator, targets_N)
            case "bpr":
                users = [part.rows.users_B for part in parts if part.rows.users_B is not None]
                return self._outside.draw(torch.cat(users), generator)
            case _:
                return None

    def __call__(
        self,
        model: SequenceModel,
        hidden_ND: Tensor,
        targets_N: Tensor,
        negatives: Tensor | None,
    ) -> Tensor:
        """Mean loss over positions (nats; of gbce over positions and items scored): a scalar."""
        if self._loss == "model":
            return model.own_loss(hidden_ND, targets_N)
        table_VD, bias_V = model.item_table()
        if negatives is None:
            return full_cross_entropy(hidden_ND, table_VD, bias_V, targets_N)
        if self._loss == "sampled":
            if not model.has_sparse_table:
                table_VD = with_dense_gradient(table_VD)
                bias_V = None if bias_V is None else with_dense_gradient(bias_V)
            return sampled_softmax(hidden_ND, table_VD, bias_V, targets_N, negatives, self._log_q_V)
        if self._loss == "bpr":
            return bpr(hidden_ND, table_VD, bias_V, targets_N, negatives, self._weight_decay)
        return gbce(hidden_ND, table_VD, bias_V, targets_N, negatives, self._calibration)
