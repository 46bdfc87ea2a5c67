"""NextItNet the published way: rows of fixed length, padded on the left. See `plain_model`."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainDilatedBlock(nn.Module):
    """Two dilated causal convolutions, each normalised, added to their input."""

    def __init__(self, size: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(size, size, 3, dilation=dilation)
        self.first_norm = nn.LayerNorm(size, eps=1e-8)
        self.second = nn.Conv1d(size, size, 3, dilation=2 * dilation)
        self.second_norm = nn.LayerNorm(size, eps=1e-8)

    def forward(self, x_BLD: Tensor, is_item_BL1: Tensor) -> Tensor:
        inner_BLD = F.relu(self.first_norm(causal(self.first, x_BLD * is_item_BL1)))
        inner_BLD = causal(self.second, inner_BLD * is_item_BL1)
        return x_BLD + F.relu(self.second_norm(inner_BLD))


def causal(convolution: nn.Conv1d, x_BLD: Tensor) -> Tensor:
    """Over the own position and earlier ones."""
    reach = 2 * convolution.dilation[0]
    y_BDL: Tensor = convolution(F.pad(x_BLD.transpose(1, 2), (reach, 0)))
    return y_BDL.transpose(1, 2)


class PlainNextItNet(nn.Module):
    """NextItNet over rows of fixed length; the names of parameters are those of ours.

    Attributes
    ----------
    padding
        The class that stands for "no item": the number after the last item.
    """

    def __init__(
        self,
        n_items: int,
        hidden_size: int = 64,
        dilations: Sequence[int] = (1, 2, 1, 2, 1, 2),
        dropout: float = 0.2,
        max_length: int = 100,
    ) -> None:
        super().__init__()
        self.padding = n_items
        self.max_length = max_length
        self.item_embedding = nn.Embedding(n_items + 1, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(PlainDilatedBlock(hidden_size, d) for d in dilations)
        self.output = nn.Linear(hidden_size, n_items)
        bound = 1 / math.sqrt(n_items)
        nn.init.uniform_(self.item_embedding.weight, -bound, bound)

    def forward(self, items_BL: Tensor) -> Tensor:
        """Hidden states ``[B, L, D]``; at padded places they mean nothing."""
        is_item_BL1 = (items_BL != self.padding)[..., None]
        x_BLD = self.dropout(self.item_embedding(items_BL))
        for block in self.blocks:
            x_BLD = block(x_BLD, is_item_BL1)
        return self.dropout(x_BLD)

    def logits(self, items_BL: Tensor) -> Tensor:
        """Scores of all items at all positions, padded ones too: ``[B, L, V]``."""
        return self.output(self(items_BL))

    def copy_from(self, state: Mapping[str, Tensor]) -> None:
        """Take over the parameters of a peercollab model; the padding class keeps its own."""
        state = dict(state)
        padding_1D = self.item_embedding.weight.detach()[-1:]
        state["item_embedding.weight"] = torch.cat([state["item_embedding.weight"], padding_1D])
        self.load_state_dict(state)
