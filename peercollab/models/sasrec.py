"""SASRec: causal self-attention over a user's latest items.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018. By default in the form that
"Enhancing Top-N Item Recommendations by Peer Collaboration" (SIGIR 2022, arXiv 2111.00429)
trains: no output projection in attention, norms behind each addition and none at the end, ReLU, and
an output layer of its own with bias. What is usual since then is there as options.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peercollab.data.batches import Rows
from peercollab.errors import PeercollabError
from peercollab.models.attention import attend, attend_once
from peercollab.models.dropout import Dropout
from peercollab.models.model import ModelSettings, SequenceModel, Symmetry, outputs_of

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


@dataclass(frozen=True)
class SASRecOptions(ModelSettings):
    """Causal self-attention over a user's latest items.

    By default as published by PCRec; `norm`, `final_norm`, `projection`, `activation` and `tied`
    are its later forms.
    """

    name: ClassVar[str] = "sasrec"
    title: ClassVar[str] = "SASRec"
    reference: ClassVar[str] = (
        "Kang and McAuley, ICDM 2018 (arXiv 1808.09781), as in SIGIR 2022 (arXiv 2111.00429)"
    )

    hidden_size: int = 64
    """Size of an item's vector and of every hidden state."""
    blocks: int = 2
    """Blocks of self-attention and feed-forward."""
    heads: int = 1
    """Attention heads; must divide the hidden size."""
    dropout: float = 0.2
    """Share of activations dropped while training, from 0 up to, not including, 1."""
    max_length: int = 100
    """Latest items of a history that the model looks at."""
    norm: Literal["after", "before"] = "after"
    """Normalise what each part of a block and its input add up to, or what goes into the part."""
    final_norm: bool = False
    """Normalise the hidden states behind the last block."""
    projection: bool = False
    """Let a linear layer mix the heads of attention."""
    activation: Literal["relu", "gelu"] = "relu"
    """Of the feed-forward network."""
    tied: bool = False
    """Score items with the vectors that histories are read with, without an output layer."""

    def __post_init__(self) -> None:
        self.require_positive("hidden_size", "blocks", "heads", "max_length")
        self.require_dropout()
        if self.hidden_size % self.heads:
            raise PeercollabError(
                f"--heads {self.heads} does not divide --hidden-size {self.hidden_size}: "
                "every head needs the same share of it"
            )

    def make(self, n_items: int, n_users: int) -> "SASRec":
        return SASRec(n_items, self)


class Block(nn.Module):
    """Self-attention, then a feed-forward network at each position, each added to its input.

    Norms stand behind each addition, or before each of the two parts (Xiong et al., ICML 2020,
    arXiv 2002.04745).
    """

    def __init__(self, options: SASRecOptions) -> None:
        super().__init__()
        size = options.hidden_size
        self.heads = options.heads
        self.norms_first = options.norm == "before"
        self.activation = ACTIVATIONS[options.activation]
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.projection = nn.Linear(size, size) if options.projection else None
        self.attention_norm = nn.LayerNorm(size)
        self.widen = nn.Linear(size, size)
        self.narrow = nn.Linear(size, size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.dropout = Dropout(options.dropout)

    def _heads(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """float ``[rows, positions, hidden size]`` to the same."""
        # One product for the three layers, which stay apart as what peers give to each other.
        layers = (self.query, self.key, self.value)
        weight_ED = torch.cat([layer.weight for layer in layers])
        bias_E = torch.cat([layer.bias for layer in layers])
        seen_BLD = self._seen(x_BLD)
        query_BLD, key_BLD, value_BLD = F.linear(seen_BLD, weight_ED, bias_E).chunk(3, dim=-1)
        attended_BHLK = attend(
            self._heads(query_BLD), self._heads(key_BLD), self._heads(value_BLD), self.dropout
        )
        return self._after_attention(x_BLD, attended_BHLK.transpose(1, 2).flatten(2))

    def at(self, x_BLD: Tensor, position_B: Tensor) -> Tensor:
        """float ``[rows, hidden size]``: what `forward` gives at one position of each row.

        Earlier positions are needed for their keys and values alone. For eval mode: attention here
        knows no dropout, while the feed-forward network would go on dropping in training mode.
        """
        row_B = torch.arange(len(x_BLD), device=x_BLD.device)
        seen_BLD = self._seen(x_BLD)
        attended_BHK = attend_once(
            self._heads(self.query(seen_BLD[row_B, position_B])[:, None]).squeeze(2),
            self._heads(self.key(seen_BLD)),
            self._heads(self.value(seen_BLD)),
            position_B,
        )
        return self._after_attention(x_BLD[row_B, position_B], attended_BHK.flatten(1))

    def _seen(self, x_TD: Tensor) -> Tensor:
        """What attention sees of its input."""
        return self.attention_norm(x_TD) if self.norms_first else x_TD

    def _after_attention(self, x_TD: Tensor, attended_TD: Tensor) -> Tensor:
        """The block's output, from its input and what attention made of that."""
        if self.projection is not None:
            attended_TD = self.dropout(self.projection(attended_TD))
        x_TD = x_TD + attended_TD
        if self.norms_first:
            return x_TD + self._feed_forward(self.feed_forward_norm(x_TD))
        x_TD = self.attention_norm(x_TD)
        return self.feed_forward_norm(x_TD + self._feed_forward(x_TD))

    def _feed_forward(self, x_TD: Tensor) -> Tensor:
        inner_TD = self.dropout(self.activation(self.widen(x_TD)))
        return self.dropout(self.narrow(inner_TD))


class SASRec(SequenceModel):
    """Hidden states of item histories, and the item table they are scored against.

    Parameters
    ----------
    n_items
        Size of the catalogue.
    options
        The network's sizes and dropout.
    """

    def __init__(self, n_items: int, options: SASRecOptions) -> None:
        super().__init__()
        self.max_length = options.max_length
        self.heads = options.heads
        self.item_embedding = nn.Embedding(n_items, options.hidden_size)
        self.position_embedding = nn.Embedding(options.max_length, options.hidden_size)
        self.dropout = Dropout(options.dropout)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.blocks))
        self.final_norm = nn.LayerNorm(options.hidden_size) if options.final_norm else None
        self.output = None if options.tied else nn.Linear(options.hidden_size, n_items)
        for embedding in (self.item_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=0.01)

    def forward(self, rows: Rows) -> Tensor:
        """Hidden states: float32 ``[rows, positions, hidden size]``; padded places mean nothing.

        Position embeddings are aligned to the right: the latest item of a row has the last
        position, whatever the row's length and the padding behind it.
        """
        x_BLD = self._embedded(rows)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return self._ended(x_BLD)

    def last_hidden(self, rows: Rows) -> Tensor:
        """float32 ``[rows, hidden size]``; the last block is asked for these positions alone."""
        x_BLD = self._embedded(rows)
        *others, last = self.blocks
        for block in others:
            x_BLD = block(x_BLD)
        return self._ended(last.at(x_BLD, rows.lengths_B - 1))  # type: ignore[operator]

    def _ended(self, x_TD: Tensor) -> Tensor:
        return x_TD if self.final_norm is None else self.final_norm(x_TD)

    def _embedded(self, rows: Rows) -> Tensor:
        column_L = torch.arange(rows.items_BL.shape[1], device=rows.items_BL.device)
        position_BL = self.max_length - rows.lengths_B[:, None] + column_L
        position_BL = position_BL.clamp_(max=self.max_length - 1)
        x_BLD = rows.looked_up_in(self.item_embedding) + self.position_embedding(position_BL)
        return self.dropout(x_BLD)

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        """What hidden states are multiplied with: ``table_VD`` and ``bias_V``."""
        if self.output is None:
            return self.item_embedding.weight, None
        return self.output.weight, self.output.bias

    def item_embeddings(self) -> list[nn.Embedding]:
        """The one that histories are looked up in."""
        return [self.item_embedding]

    def symmetries(self) -> list[Symmetry]:
        """Those of the hidden state's dimensions, and in each block of keys and inner units.

        Without a projection what a value's dimension is, its place in the hidden state is, and with
        several heads dimensions stay within their head; with one, values are another kind.
        """
        size = self.item_embedding.embedding_dim
        head = size // self.heads
        hidden = [("item_embedding.weight", 1), ("position_embedding.weight", 1)]
        within: list[Symmetry] = []
        for i, block in enumerate(self.blocks):
            at = f"blocks.{i}"
            hidden += [(f"{at}.{name}.weight", 1) for name in ("query", "key", "value", "widen")]
            has_projection = block.projection is not None
            mixed = "projection" if has_projection else "value"
            for name in (mixed, "attention_norm", "narrow", "feed_forward_norm"):
                hidden += outputs_of(f"{at}.{name}")
            keys = (*outputs_of(f"{at}.query"), *outputs_of(f"{at}.key"))
            within.append(Symmetry(size, head, keys))
            if has_projection:
                values = (*outputs_of(f"{at}.value"), (f"{at}.projection.weight", 1))
                within.append(Symmetry(size, head, values))
            inner = (*outputs_of(f"{at}.widen"), (f"{at}.narrow.weight", 1))
            within.append(Symmetry(size, size, inner))
        if self.final_norm is not None:
            hidden += outputs_of("final_norm")
        if self.output is not None:
            hidden.append(("output.weight", 1))
        is_free = all(block.projection is not None for block in self.blocks)
        return [Symmetry(size, size if is_free else head, tuple(hidden)), *within]
