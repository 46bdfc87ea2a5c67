"""What training, ranking and transplant ask of a model."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from peercollab.data.batches import Rows
from peercollab.errors import PeercollabError
from peercollab.models.dropout import Dropout

Scope = Literal["embedding", "middle", "final"]
LossName = Literal["full", "sampled", "gbce", "bpr", "model"]
TargetsOf = Literal["every", "last"]


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


def outputs_of(layer: str) -> list[tuple[str, int]]:
    """Where the units lie that a layer with a bias gives out."""
    return [(f"{layer}.{part}", 0) for part in ("weight", "bias")]


class SequenceModel(nn.Module):
    """A network that turns histories, or users, into hidden states to score items with.

    Attributes
    ----------
    max_length
        Latest items of a history that the model looks at.
    knows_users
        Whether it ignores the history of a user that it was trained on: that has a vector.
    layer_scopes
        Scopes of modules, by their names, that are not what they would be by themselves:
        `peercollab.transplant.layers` says what that is.
    shared_layers
        Modules whose tensors are those of others on purpose.
    has_sparse_table
        Whether the item table and its bias are parameters as they stand, which nothing reads but
        the loss and `item_embeddings`: a loss over few items then gives few rows a gradient.
    """

    max_length: int
    knows_users: bool = False
    layer_scopes: Mapping[str, Scope] = {}
    shared_layers: Sequence[str] = ()
    has_sparse_table: bool = True

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

    def own_loss(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """The loss of ``--loss model``, mean over positions: a scalar."""
        raise NotImplementedError


class ReadingModel(SequenceModel):
    """What lies around a network: vectors that histories are read with, and an output layer.

    Parameters
    ----------
    n_items
        Size of the catalogue.
    hidden_size, max_length, dropout
        Of the network; dropout is for it to apply.
    """

    def __init__(self, n_items: int, hidden_size: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.max_length = max_length
        self.dropout = Dropout(dropout)
        self.item_embedding = nn.Embedding(n_items, hidden_size)
        self.output = nn.Linear(hidden_size, n_items)

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        """The output layer's ``table_VD`` and ``bias_V``."""
        return self.output.weight, self.output.bias

    def item_embeddings(self) -> Sequence[nn.Embedding]:
        """The one that histories are looked up in."""
        return (self.item_embedding,)


@dataclass(frozen=True)
class ModelSettings:
    """A kind of model with all of its options: everything that is needed to make one.

    Attributes
    ----------
    name
        On the command line.
    title
        In sentences.
    reference
        Where it is from.
    batch_size, loss
        What it is trained with unless something else is asked for.
    of_users
        Whether it has a vector for each user, and learns from pairs of user and item; the others
        learn from sequences.
    can_mask
        Whether items can be hidden from it.
    is_causal
        Whether the hidden state of a position depends on that position and earlier ones alone.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    batch_size: ClassVar[int] = 128
    loss: ClassVar[LossName] = "full"
    of_users: ClassVar[bool] = False
    can_mask: ClassVar[bool] = True

    @property
    def where(self) -> str:
        """How a message names it."""
        return f"--model {self.name}"

    @property
    def is_causal(self) -> bool:
        return True

    @property
    def targets(self) -> TargetsOf | None:
        """What it learns from in a window; None of a model that learns from pairs."""
        if self.of_users:
            return None
        return "every" if self.is_causal else "last"

    @property
    def window(self) -> int:
        """Latest items of a history that the model looks at."""
        return int(getattr(self, "max_length", 1))

    @property
    def dropout_share(self) -> float | None:
        """Share of activations dropped; None of a model that knows no dropout."""
        return getattr(self, "dropout", None)

    def with_dropout(self, share: float) -> Self:
        """The same with another dropout."""
        return replace(self, dropout=share)  # type: ignore[call-arg]

    def make(self, n_items: int, n_users: int) -> SequenceModel:
        """A model with weights from torch's generator as it is."""
        raise NotImplementedError

    def require_positive(self, *names: str) -> None:
        """Refuse sizes below 1, by the options' names."""
        for name in names:
            if (value := getattr(self, name)) < 1:
                raise PeercollabError(f"--{name.replace('_', '-')} is {value}: give 1 or more")

    def require_dropout(self) -> None:
        """Refuse a dropout that is no share."""
        share = self.dropout_share
        if share is not None and not 0 <= share < 1:
            raise PeercollabError(
                f"--dropout is {share}: give a share from 0 up to, not including, 1"
            )
