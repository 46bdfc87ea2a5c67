"""BPR-MF: a vector for each user and each item, and nothing else.

Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009 (arXiv
1205.2618), by matrix factorisation.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peercollab.data.batches import Rows
from peercollab.models.model import LossName, ModelSettings, SequenceModel, Symmetry

WHOLE_HISTORY = 2**31 - 1


@dataclass(frozen=True)
class BPRMFOptions(ModelSettings):
    """A vector for each user and each item. It knows users, not histories: for a user that it was
    not trained on, a vector is made of the items in the history, by one rule for all."""

    name: ClassVar[str] = "bpr-mf"
    title: ClassVar[str] = "BPR-MF"
    reference: ClassVar[str] = "Rendle et al., UAI 2009 (arXiv 1205.2618)"
    batch_size: ClassVar[int] = 2048
    loss: ClassVar[LossName] = "bpr"
    of_users: ClassVar[bool] = True

    hidden_size: int = 256

    def __post_init__(self) -> None:
        self.require_positive("hidden_size")

    @property
    def window(self) -> int:
        return WHOLE_HISTORY

    def make(self, n_items: int, n_users: int) -> "BPRMF":
        return BPRMF(n_items, n_users, self)


class BPRMF(SequenceModel):
    """The hidden state of a user is the user's vector.

    Parameters
    ----------
    n_items, n_users
        Sizes of the catalogue, and of the users that are trained on.
    options
        The vectors' size.
    """

    max_length = WHOLE_HISTORY
    knows_users = True

    def __init__(self, n_items: int, n_users: int, options: BPRMFOptions) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(n_users, options.hidden_size)
        self.item_embedding = nn.Embedding(n_items, options.hidden_size)
        for embedding in (self.user_embedding, self.item_embedding):
            nn.init.normal_(embedding.weight, std=0.01)

    def forward(self, rows: Rows) -> Tensor:
        """The users' vectors, float32 ``[rows, 1, hidden size]``; -1 is nobody that is known."""
        assert rows.users_B is not None, "rows of users are wanted"
        return self.user_embedding(rows.users_B)[:, None]

    def last_hidden(self, rows: Rows) -> Tensor:
        """float32 ``[rows, hidden size]``: of a known user the vector, of others one by `fold_in`.

        Users are those of ``rows.users_B``; -1, or None for all, are others.
        """
        if rows.users_B is None:
            return self.fold_in(rows)
        known_BD = self.user_embedding(rows.users_B.clamp(min=0))
        if (rows.users_B >= 0).all():
            return known_BD
        return torch.where(rows.users_B[:, None] >= 0, known_BD, self.fold_in(rows))

    def fold_in(self, rows: Rows) -> Tensor:
        """A vector for a user that is not known: the mean of the history's items less that of all.

        That is the direction of the first step which BPR's gradient takes from a vector of zeros,
        with the mean of the catalogue for the negatives; the length does not change a ranking.
        """
        table_VD = self.item_embedding.weight
        column_L = torch.arange(rows.items_BL.shape[1], device=rows.items_BL.device)
        is_real_BL = column_L < rows.lengths_B[:, None]
        # The vectors of whole histories, which may be long, never lie side by side.
        sum_BD = F.embedding_bag(
            rows.items_BL,
            table_VD,
            mode="sum",
            per_sample_weights=is_real_BL.to(table_VD.dtype),
        )
        return sum_BD / rows.lengths_B[:, None] - table_VD.mean(dim=0)

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        """The items' vectors; there is no bias."""
        return self.item_embedding.weight, None

    def item_embeddings(self) -> list[nn.Embedding]:
        """The items' vectors."""
        return [self.item_embedding]

    def symmetries(self) -> list[Symmetry]:
        """Those of the vectors' dimensions."""
        size = self.item_embedding.embedding_dim
        axes = (("user_embedding.weight", 1), ("item_embedding.weight", 1))
        return [Symmetry(size, size, axes)]
