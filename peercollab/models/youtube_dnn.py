"""YouTubeDNN: the mean of what a small network makes of each item.

Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016, candidate
generation, in the form that PCRec trains (SIGIR 2022, arXiv 2111.00429): items alone, one layer
on each of them, then their mean. Published training has a single target behind each window
(``--targets last``); here a running mean makes one of every prefix. Padding is never averaged in.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peercollab.data.batches import Rows
from peercollab.models.model import ModelSettings, ReadingModel, Symmetry, outputs_of


@dataclass(frozen=True)
class YouTubeDNNOptions(ModelSettings):
    """The mean of what a small network makes of each of a user's latest items."""

    name: ClassVar[str] = "youtube-dnn"
    title: ClassVar[str] = "YouTubeDNN"
    reference: ClassVar[str] = "Covington et al., RecSys 2016, as in SIGIR 2022 (arXiv 2111.00429)"

    hidden_size: int = 64
    blocks: int = 1
    dropout: float = 0.2
    max_length: int = 100

    def __post_init__(self) -> None:
        self.require_positive("hidden_size", "blocks", "max_length")
        self.require_dropout()

    def make(self, n_items: int, n_users: int) -> "YouTubeDNN":
        return YouTubeDNN(n_items, self)


class YouTubeDNN(ReadingModel):
    """Linear layers with ReLU on each item, and the mean of the window up to each position.

    Parameters
    ----------
    n_items
        Size of the catalogue.
    options
        The network's sizes, and dropout, which acts on the embeddings; published is none. Weights
        begin as torch draws them: with embeddings as small as SASRec's it learns more slowly
        (docs/lab-log.md).
    """

    def __init__(self, n_items: int, options: YouTubeDNNOptions) -> None:
        size = options.hidden_size
        super().__init__(n_items, size, options.max_length, options.dropout)
        self.layers = nn.ModuleList(nn.Linear(size, size) for _ in range(options.blocks))

    def forward(self, rows: Rows) -> Tensor:
        """Hidden states: float32 ``[rows, positions, hidden size]``; padded places mean nothing.

        Items that are hidden do not count.
        """
        x_BLD = self.dropout(rows.looked_up_in(self.item_embedding))
        for layer in self.layers:
            x_BLD = F.relu(layer(x_BLD))
        if rows.hidden_BL is None:
            counts_L = torch.arange(1, x_BLD.shape[1] + 1, device=x_BLD.device)
            return x_BLD.cumsum(dim=1) / counts_L[:, None]
        seen_BL = ~rows.hidden_BL
        x_BLD = x_BLD.masked_fill(rows.hidden_BL[..., None], 0.0)
        return x_BLD.cumsum(dim=1) / seen_BL.cumsum(dim=1).clamp(min=1)[..., None]

    def symmetries(self) -> list[Symmetry]:
        """Those of each layer's units."""
        size = self.item_embedding.embedding_dim
        given = [("item_embedding.weight", 1)]
        found: list[Symmetry] = []
        for number in range(len(self.layers)):
            found.append(Symmetry(size, size, (*given, (f"layers.{number}.weight", 1))))
            given = outputs_of(f"layers.{number}")
        return [*found, Symmetry(size, size, (*given, ("output.weight", 1)))]
