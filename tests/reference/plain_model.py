"""The published way, written anew and plainly: what the fast code is compared with.

This file and its neighbours are the reference for tests of equality and for the benchmark's
ratios. They do what the published code does, with nothing clever: rows of one fixed length with
padding on the left, logits of all positions at once, loops over users in Python, weights that are
exchanged through files. Nothing here imports peercollab.

Two oddities of the published code are left out, so that the results can be equal to ours: padding
is not attended to, and it is not predicted.

Shapes: B rows, L positions, D hidden size, H heads, K size of a head, V items.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainBlock(nn.Module):
    """Self-attention and a feed-forward network, each added to its input and normalised."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size)
        self.widen = nn.Linear(size, size)
        self.narrow = nn.Linear(size, size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def split(self, x_BLD: Tensor) -> Tensor:
        """``[B, L, D]`` to ``[B, H, L, K]``."""
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x_BLD: Tensor, allowed_B1LL: Tensor) -> Tensor:
        query_BHLK = self.split(self.query(x_BLD))
        key_BHLK = self.split(self.key(x_BLD))
        value_BHLK = self.split(self.value(x_BLD))
        scores_BHLL = query_BHLK @ key_BHLK.transpose(2, 3) / math.sqrt(query_BHLK.shape[-1])
        scores_BHLL = scores_BHLL.masked_fill(~allowed_B1LL, -torch.inf)
        weights_BHLL = self.dropout(scores_BHLL.softmax(-1))
        attended_BLD = (weights_BHLL @ value_BHLK).transpose(1, 2).flatten(2)
        x_BLD = self.attention_norm(x_BLD + attended_BLD)
        inner_BLD = self.dropout(F.relu(self.widen(x_BLD)))
        inner_BLD = self.dropout(self.narrow(inner_BLD))
        return self.feed_forward_norm(x_BLD + inner_BLD)


class PlainSASRec(nn.Module):
    """SASRec over rows of fixed length, padded on the left.

    The names of parameters are those of `peercollab.models.sasrec`, and so are their initial
    distributions.

    Attributes
    ----------
    padding
        The class that stands for "no item": the number after the last item.
    """

    def __init__(
        self,
        n_items: int,
        hidden_size: int = 64,
        blocks: int = 2,
        heads: int = 1,
        dropout: float = 0.2,
        max_length: int = 100,
    ) -> None:
        super().__init__()
        self.padding = n_items
        self.max_length = max_length
        self.item_embedding = nn.Embedding(n_items + 1, hidden_size)
        self.position_embedding = nn.Embedding(max_length, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(PlainBlock(hidden_size, heads, dropout) for _ in range(blocks))
        self.output = nn.Linear(hidden_size, n_items)
        for embedding in (self.item_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=0.01)

    def forward(self, items_BL: Tensor) -> Tensor:
        """Hidden states ``[B, L, D]``; at padded places they mean nothing."""
        length = items_BL.shape[1]
        x_BLD = self.item_embedding(items_BL) + self.position_embedding.weight[-length:]
        x_BLD = self.dropout(x_BLD)
        earlier_LL = torch.ones(length, length, dtype=torch.bool, device=items_BL.device).tril()
        own_LL = torch.eye(length, dtype=torch.bool, device=items_BL.device)
        is_item_B1L = (items_BL != self.padding)[:, None]
        # Every position sees itself: a padded one has nothing else, and softmax needs something.
        allowed_BLL = (earlier_LL & is_item_B1L) | own_LL
        for block in self.blocks:
            x_BLD = block(x_BLD, allowed_BLL[:, None])
        return x_BLD

    def logits(self, items_BL: Tensor) -> Tensor:
        """Scores of all items at all positions, padded ones too: ``[B, L, V]``."""
        return self.output(self(items_BL))

    def copy_from(self, state: Mapping[str, Tensor]) -> None:
        """Take over the parameters of a peercollab model; the padding class keeps its own."""
        state = dict(state)
        padding_1D = self.item_embedding.weight.detach()[-1:]
        state["item_embedding.weight"] = torch.cat([state["item_embedding.weight"], padding_1D])
        self.load_state_dict(state)
