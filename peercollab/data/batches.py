"""Rows of the flat item array laid side by side as tensors, padded on the right.

Rows begin at position 0 and padding comes after them, so a causal model never sees padding from
a real position and needs no mask. The item number at padded places is 0, and means nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from peercollab.data.sequences import Int32Array, Int64Array
from peercollab.data.split import Spans

# Of a group of rows that go through the network together.
LEAST_FILLED = 0.6
SHORTEST_GROUP = 16


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there. On a GPU the copy is only queued, behind what the GPU has to do."""
    if device.type == "cuda":
        # A copy from other memory waits until the GPU has done all of its work.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True)
class Rows:
    """Histories side by side.

    Attributes
    ----------
    items_BL
        int64: item numbers; 0 at padded places.
    lengths_B
        int64: real positions of each row, at least 1.
    hidden_BL
        bool: positions whose item the model must not see; None if it may see all.
    users_B
        int64: user numbers, for models that know users; None where nobody is known.
    """

    items_BL: Tensor
    lengths_B: Tensor
    hidden_BL: Tensor | None = None
    users_B: Tensor | None = None

    def to(self, device: torch.device) -> "Rows":
        return Rows(
            to_device(self.items_BL, device),
            to_device(self.lengths_B, device),
            None if self.hidden_BL is None else to_device(self.hidden_BL, device),
            None if self.users_B is None else to_device(self.users_B, device),
        )

    def looked_up_in(self, embedding: nn.Embedding) -> Tensor:
        """float ``[rows, positions, hidden size]``: the items' vectors, 0 for hidden ones."""
        x_BLD: Tensor = embedding(self.items_BL)
        if self.hidden_BL is not None:
            x_BLD = x_BLD.masked_fill(self.hidden_BL[..., None], 0.0)
        return x_BLD


@dataclass(frozen=True)
class TrainingBatch:
    """Rows of inputs, and the targets at their positions.

    Attributes
    ----------
    rows
        The inputs: all items of a window but its last.
    real_N
        int64: where the positions with a target lie in the rows laid end to end (B * L).
    targets_N
        int64: the item that follows each of these.
    """

    rows: Rows
    real_N: Tensor
    targets_N: Tensor

    def to(self, device: torch.device) -> "TrainingBatch":
        return TrainingBatch(
            self.rows.to(device),
            to_device(self.real_N, device),
            to_device(self.targets_N, device),
        )

    def with_last_targets(self) -> "TrainingBatch":
        """The same with the target of each row's last position alone; it had one at every real."""
        lengths_B = self.rows.lengths_B
        row_B = torch.arange(len(lengths_B))
        return TrainingBatch(
            self.rows,
            row_B * self.rows.items_BL.shape[1] + lengths_B - 1,
            self.targets_N[lengths_B.cumsum(0) - 1],
        )


def lay_out(items: Int32Array, spans: Spans, users: Int64Array | None = None) -> Rows:
    """Rows padded to the longest of `spans`; with int64 user numbers.

    Empty spans are for models that know users, and a row's length is then 0.
    """
    lengths = spans.lengths
    column = np.arange(lengths.max())
    at = np.minimum(spans.starts[:, None] + column, spans.stops[:, None] - 1)
    items_2d = np.where(column < lengths[:, None], items[at], 0).astype(np.int64)
    return Rows(
        torch.from_numpy(items_2d),
        torch.from_numpy(lengths),
        users_B=None if users is None else torch.from_numpy(users),
    )


def training_batch(items: Int32Array, windows: Spans) -> TrainingBatch:
    """Inputs and targets of training windows, each of at least two items."""
    rows = lay_out(items, Spans(windows.starts, windows.stops - 1))
    following = lay_out(items, Spans(windows.starts + 1, windows.stops))
    length = rows.items_BL.shape[1]
    real_BL = torch.arange(length) < rows.lengths_B[:, None]
    real_N = real_BL.flatten().nonzero().squeeze(1)
    return TrainingBatch(rows, real_N, following.items_BL.flatten()[real_N])


def shuffled(n_rows: int, batch_size: int, generator: np.random.Generator) -> list[Int64Array]:
    """Row numbers of each batch of an epoch: every row is in exactly one, whatever its length.

    Batches of like lengths would need no padding, but learn less in as many steps: one of short
    rows, with few positions, moves the weights as far as one of long rows.
    """
    order = generator.permutation(n_rows)
    return [order[start : start + batch_size] for start in range(0, n_rows, batch_size)]


def of_like_length(lengths: Int64Array) -> list[Int64Array]:
    """Row numbers in groups, from long to short, that need little padding each.

    A group ends where rows would be shorter than `LEAST_FILLED` of its longest; what is shorter
    than `SHORTEST_GROUP` altogether is one group.
    """
    order = np.argsort(-lengths, kind="stable")
    groups: list[Int64Array] = []
    while len(order):
        longest = lengths[order[0]]
        least = LEAST_FILLED * longest if longest > SHORTEST_GROUP else 0
        n_rows = int(np.count_nonzero(lengths[order] >= least))
        groups.append(order[:n_rows])
        order = order[n_rows:]
    return groups


def in_order(spans: Spans, batch_size: int) -> Iterator[Int64Array]:
    """Row numbers in batches of like length, for work in which the order plays no part."""
    order = np.argsort(spans.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
