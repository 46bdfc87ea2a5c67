"""NextItNet: dilated causal convolutions over a user's latest items.

Yuan et al., "A Simple Convolutional Generative Network for Next Item Recommendation", WSDM 2019
(arXiv 1808.05163). Nothing is padded but the time before a history begins, with zeros.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from peercollab.data.batches import Rows
from peercollab.errors import PeercollabError
from peercollab.models.model import ModelSettings, ReadingModel, Symmetry, outputs_of

NORM_EPS = 1e-8


@dataclass(frozen=True)
class NextItNetOptions(ModelSettings):
    """Dilated causal convolutions over a user's latest items.

    Of the two residual blocks `plain` has two dilated convolutions, the second with twice the
    dilation; `bottleneck` one, between 1x1 convolutions to half the hidden size and back.
    """

    name: ClassVar[str] = "nextitnet"
    title: ClassVar[str] = "NextItNet"
    reference: ClassVar[str] = "Yuan et al., WSDM 2019 (arXiv 1808.05163)"

    hidden_size: int = 100
    dropout: float = 0.2
    max_length: int = 100
    residual: Literal["plain", "bottleneck"] = "plain"
    dilations: tuple[int, ...] = (1, 2, 1, 2, 1, 2)
    kernel_size: int = 3

    def __post_init__(self) -> None:
        self.require_positive("hidden_size", "max_length", "kernel_size")
        self.require_dropout()
        if not self.dilations or min(self.dilations) < 1:
            told = " ".join(map(str, self.dilations))
            raise PeercollabError(
                f"--dilations is {told or 'empty'}: give one number of 1 or more for each block, "
                "such as 1 2 1 2"
            )
        if self.residual == "bottleneck" and self.hidden_size % 2:
            raise PeercollabError(
                f"--hidden-size is {self.hidden_size}: --residual bottleneck needs an even number"
            )

    def make(self, n_items: int, n_users: int) -> "NextItNet":
        return NextItNet(n_items, self)


class CausalConvolution(nn.Conv1d):
    """A dilated convolution over the own position and earlier ones; before the first are zeros."""

    def forward(self, x_BLD: Tensor) -> Tensor:
        """float ``[rows, positions, inputs]`` to ``[rows, positions, outputs]``."""
        reach = (self.kernel_size[0] - 1) * self.dilation[0]
        return super().forward(F.pad(x_BLD.mT, (reach, 0))).mT


class PlainBlock(nn.Module):
    """Convolution, norm, ReLU, twice, added to the input."""

    def __init__(self, size: int, dilation: int, kernel: int) -> None:
        super().__init__()
        self.first = CausalConvolution(size, size, kernel, dilation=dilation)
        self.first_norm = nn.LayerNorm(size, eps=NORM_EPS)
        self.second = CausalConvolution(size, size, kernel, dilation=2 * dilation)
        self.second_norm = nn.LayerNorm(size, eps=NORM_EPS)

    def forward(self, x_BLD: Tensor) -> Tensor:
        inner_BLD = F.relu(self.first_norm(self.first(x_BLD)))
        return x_BLD + F.relu(self.second_norm(self.second(inner_BLD)))

    @staticmethod
    def symmetries(at: str, size: int) -> tuple[list[tuple[str, int]], list[Symmetry]]:
        """Where the hidden state's units lie in a block, and the orders of its inner ones."""
        hidden = [(f"{at}.first.weight", 1)]
        hidden += [*outputs_of(f"{at}.second"), *outputs_of(f"{at}.second_norm")]
        inner = [*outputs_of(f"{at}.first"), *outputs_of(f"{at}.first_norm")]
        return hidden, [Symmetry(size, size, (*inner, (f"{at}.second.weight", 1)))]


class BottleneckBlock(nn.Module):
    """Norm, ReLU and convolution, three times, added to the input.

    The first and the last convolution are of one position, to half the size and back.
    """

    def __init__(self, size: int, dilation: int, kernel: int) -> None:
        super().__init__()
        half = size // 2
        self.narrow_norm = nn.LayerNorm(size, eps=NORM_EPS)
        self.narrow = nn.Linear(size, half)
        self.dilated_norm = nn.LayerNorm(half, eps=NORM_EPS)
        self.dilated = CausalConvolution(half, half, kernel, dilation=dilation)
        self.widen_norm = nn.LayerNorm(half, eps=NORM_EPS)
        self.widen = nn.Linear(half, size)

    def forward(self, x_BLD: Tensor) -> Tensor:
        inner_BLD = self.narrow(F.relu(self.narrow_norm(x_BLD)))
        inner_BLD = self.dilated(F.relu(self.dilated_norm(inner_BLD)))
        return x_BLD + self.widen(F.relu(self.widen_norm(inner_BLD)))

    @staticmethod
    def symmetries(at: str, size: int) -> tuple[list[tuple[str, int]], list[Symmetry]]:
        """Where the hidden state's units lie in a block, and the orders of its inner ones."""
        hidden = [*outputs_of(f"{at}.narrow_norm"), (f"{at}.narrow.weight", 1)]
        hidden += outputs_of(f"{at}.widen")
        narrow = [*outputs_of(f"{at}.narrow"), *outputs_of(f"{at}.dilated_norm")]
        dilated = [*outputs_of(f"{at}.dilated"), *outputs_of(f"{at}.widen_norm")]
        half = size // 2
        return hidden, [
            Symmetry(half, half, (*narrow, (f"{at}.dilated.weight", 1))),
            Symmetry(half, half, (*dilated, (f"{at}.widen.weight", 1))),
        ]


Block = PlainBlock | BottleneckBlock

BLOCKS: Mapping[str, type[Block]] = {"plain": PlainBlock, "bottleneck": BottleneckBlock}


class NextItNet(ReadingModel):
    """Residual blocks of convolutions between an item table and an output layer.

    Parameters
    ----------
    n_items
        Size of the catalogue.
    options
        The network's sizes, blocks and dropout, which acts on the embeddings and on what the last
        block gives out; the published network has none.
    """

    def __init__(self, n_items: int, options: NextItNetOptions) -> None:
        size = options.hidden_size
        super().__init__(n_items, size, options.max_length, options.dropout)
        self.block: type[Block] = BLOCKS[options.residual]
        self.blocks = nn.ModuleList(
            self.block(size, dilation, options.kernel_size) for dilation in options.dilations
        )
        bound = 1 / math.sqrt(n_items)
        nn.init.uniform_(self.item_embedding.weight, -bound, bound)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.constant_(self.output.bias, 0.1)

    def forward(self, rows: Rows) -> Tensor:
        """Hidden states: float32 ``[rows, positions, hidden size]``; padded places mean nothing."""
        x_BLD = self.dropout(rows.looked_up_in(self.item_embedding))
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return self.dropout(x_BLD)

    def symmetries(self) -> list[Symmetry]:
        """Those of the hidden state's dimensions, and of the inner units of each block."""
        size = self.item_embedding.embedding_dim
        hidden = [("item_embedding.weight", 1), ("output.weight", 1)]
        inner: list[Symmetry] = []
        for number in range(len(self.blocks)):
            of_hidden, of_inner = self.block.symmetries(f"blocks.{number}", size)
            hidden += of_hidden
            inner += of_inner
        return [Symmetry(size, size, tuple(hidden)), *inner]
