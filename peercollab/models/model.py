"""What training, ranking and transplant ask of a model."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from peercollab.data.batches import Rows

Scope = Literal["embedding", "middle", "final"]


@dataclass(frozen=True)
class Symmetry:
    """Units of a model that can be put in another order without a change of its function.

    Attributes
    ----------
    size
        Number of units.
    block
        Units per block; they may change places within their block.
    axes
        All tensors, by their name in the model's state, and the axis along which these units lie.
    """

    size: int
    block: int
    axes: tuple[tuple[str, int], ...]


class SequenceModel(nn.Module):
    """A network that turns item histories into hidden states to score items with.

    Attributes
    ----------
    max_length
        Latest items of a history that the model looks at.
    layer_scopes
        The scope of each module that is not in the middle, by the module's name.
    """

    max_length: int
    layer_scopes: ClassVar[dict[str, Scope]]

    @abstractmethod
    def forward(self, rows: Rows) -> Tensor:
        """Hidden states: float32 ``[rows, positions, hidden size]``; padded places mean nothing."""

    def last_hidden(self, rows: Rows) -> Tensor:
        """The hidden state after each row's last item: float32 ``[rows, hidden size]``."""
        row_B = torch.arange(len(rows.lengths_B), device=rows.lengths_B.device)
        return self(rows)[row_B, rows.lengths_B - 1]

    @abstractmethod
    def item_table(self) -> tuple[Tensor, Tensor | None]:
        """``table_VD`` and ``bias_V``: scores are ``hidden_BD @ table_VD.T + bias_V``."""

    def item_embeddings(self) -> Sequence[nn.Embedding]:
        """Embeddings that are looked up by item numbers; none unless a model names them.

        Of those named, a step that reads few items touches few rows.
        """
        return ()

    def symmetries(self) -> Sequence[Symmetry]:
        """Orders of units that do not matter; none unless a model names them."""
        return ()
