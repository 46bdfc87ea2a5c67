"""BPR: an item that a user has before one that the user does not have.

Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009 (arXiv
1205.2618).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from peercollab.data.sequences import Histories
from peercollab.training.examples import pairs


class OutsideSampler:
    """Draws for each user an item that is none of the user's training items, uniformly.

    Parameters
    ----------
    histories
        All interactions; the held-out items count as items that the user does not have.
    """

    def __init__(self, histories: Histories) -> None:
        users, items = pairs(histories)
        self._width = histories.n_items + 1
        self._begins_U = np.searchsorted(users, np.arange(histories.n_users + 1))
        place = np.arange(len(users)) - self._begins_U[users]
        # How many items that the user does not have come before each of the user's own, behind
        # which these numbers jump. By user they ascend, so that one search finds all jumps.
        self._jumps = users * self._width + (items - place)

    def draw(self, users_N: Tensor, generator: np.random.Generator) -> Tensor:
        """int64 ``[pairs]`` for int64 users ``[pairs]``, none of whom has all items; on the CPU."""
        users = users_N.numpy()
        begin, end = self._begins_U[users], self._begins_U[users + 1]
        n_outside = self._width - 1 - (end - begin)
        number = generator.integers(0, n_outside)
        jumped = np.searchsorted(self._jumps, users * self._width + number, side="right") - begin
        return torch.from_numpy(number + jumped)


def bpr(
    hidden_ND: Tensor,
    table_VD: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    negatives_N: Tensor,
    weight_decay: float,
) -> Tensor:
    """Mean of ``-log sigmoid(score of target - score of negative)`` over pairs: a scalar.

    To it comes half of `weight_decay` times the squares of the three vectors. Published is the sum
    over a batch, which Adam makes the same steps of.

    Parameters
    ----------
    hidden_ND, table_VD, bias_V
        float ``[pairs, hidden size]``, ``[items, hidden size]`` and ``[items]``.
    targets_N, negatives_N
        int64 ``[pairs]``: item numbers.
    """
    target_ND, negative_ND = (F.embedding(of_N, table_VD) for of_N in (targets_N, negatives_N))
    ahead_N = (hidden_ND * (target_ND - negative_ND)).sum(dim=1)
    if bias_V is not None:
        ahead_N = ahead_N + bias_V[targets_N] - bias_V[negatives_N]
    loss_N = F.softplus(-ahead_N)
    if weight_decay:
        rows = (hidden_ND, target_ND, negative_ND)
        loss_N = loss_N + weight_decay / 2 * sum(of_ND.square().sum(dim=1) for of_ND in rows)
    return loss_N.mean()
