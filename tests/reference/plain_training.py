"""Training the published way: fixed rows in shuffled batches, whole logits, plain Adam."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.plain_model import PlainSASRec
from tests.reference.plain_nextitnet import PlainNextItNet

PlainModel = PlainSASRec | PlainNextItNet


def fixed_rows(sequences: Sequence[Sequence[int]], length: int, padding: int) -> Tensor:
    """Rows of ``length + 1`` items, padded on the left: int64 ``[rows, length + 1]``.

    A longer sequence is cut from its end, and neighbouring pieces share one item, so that no
    target is lost.
    """
    rows = []
    for sequence in sequences:
        stop = len(sequence)
        while stop > 1:
            piece = list(sequence[max(stop - length - 1, 0) : stop])
            rows.append([padding] * (length + 1 - len(piece)) + piece)
            stop -= length
    return torch.tensor(rows)


def inputs_and_targets(rows_BL1: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Each int64 ``[B, L]``; a target is padding where there is no item to predict it from."""
    inputs_BL = rows_BL1[:, :-1]
    targets_BL = rows_BL1[:, 1:].masked_fill(inputs_BL == padding, padding)
    return inputs_BL, targets_BL


def plain_loss(model: PlainModel, inputs_BL: Tensor, targets_BL: Tensor) -> Tensor:
    """Mean cross-entropy over real positions (nats), from the logits of all positions."""
    logits_NV = model.logits(inputs_BL).flatten(0, 1)
    return F.cross_entropy(logits_NV, targets_BL.flatten(), ignore_index=model.padding)


class PlainTrainer:
    """A model, its optimizer and its rows.

    Parameters
    ----------
    model
        Trained in place, where it is.
    sequences
        Each user's items to learn from, in time order.
    batch_size, learning_rate, seed
        How it is trained.
    """

    def __init__(
        self,
        model: PlainModel,
        sequences: Sequence[Sequence[int]],
        *,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.rows = fixed_rows(sequences, model.max_length, model.padding)
        self.batch_size = batch_size
        self.optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        self.generator = torch.Generator().manual_seed(seed)
        self._batches = self._endless_batches()

    def train(self, steps: int) -> int:
        """Train so many steps, through as many epochs as that takes; how many real positions."""
        self.model.train()
        positions = 0
        device = self.model.output.weight.device
        for _ in range(steps):
            rows_BL1 = next(self._batches).to(device)
            inputs_BL, targets_BL = inputs_and_targets(rows_BL1, self.model.padding)
            loss = plain_loss(self.model, inputs_BL, targets_BL)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            positions += int((targets_BL != self.model.padding).sum())
        return positions

    def _endless_batches(self) -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(self.rows), generator=self.generator)
            for start in range(0, len(order), self.batch_size):
                yield self.rows[order[start : start + self.batch_size]]
