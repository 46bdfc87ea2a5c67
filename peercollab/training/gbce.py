"""gSASRec's binary cross-entropy over negatives that each position has of its own.

Scores are taken of few items, so its cost grows less with the catalogue than that of
`full_cross_entropy`. But it does grow: the negatives of a step touch so many rows that the
gradient of the table is dense, and it and Adam are a pass over all of the table, which
`sampled_softmax` does without. Dimensions, beside N positions, D hidden size and V items: K
negatives of a position, J = 1 + K items scored there (its target first), C positions of a chunk,
I pairs of a position and an item.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from peercollab.training.loss import rows_at_once

# The defaults of gSASRec (RecSys 2023, arXiv 2308.07192).
GBCE_NEGATIVES = 256
GBCE_CALIBRATION = 0.75


def gbce(
    hidden_ND: Tensor,
    table_VD: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    negatives_NK: Tensor,
    calibration: float,
) -> Tensor:
    """gSASRec's generalised binary cross-entropy, mean over positions and items scored: a scalar.

    "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling"
    (RecSys 2023, arXiv 2308.07192). With ``s = hidden @ table.T + bias``, a position costs::

        -(beta * log(sigmoid(s_target)) + sum of log(1 - sigmoid(s_negative))) / (K + 1)
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha),  alpha = K / (V - 1),  t = calibration

    which with t = 0 is binary cross-entropy, and with t = 1 gives the probabilities that one would
    have with all items as negatives.

    The rows ``[positions, 1 + K, hidden size]`` never exist as a whole. There is no second
    derivative.

    Parameters
    ----------
    hidden_ND, table_VD, bias_V
        float ``[positions, hidden size]``, ``[items, hidden size]`` and ``[items]``; two items or
        more. Scores have the table's dtype.
    targets_N
        int64 ``[positions]``: item numbers.
    negatives_NK
        int32 or int64 ``[positions, negatives]``, drawn uniformly from the items that are not the
        position's target.
    calibration
        0 to 1.
    """
    alpha = negatives_NK.shape[1] / (len(table_VD) - 1)
    # The published formula without its division.
    beta = 1 - calibration * (1 - alpha)
    loss: Tensor = _ChunkedBinaryCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_ND.to(table_VD.dtype), table_VD, bias_V, targets_N, negatives_NK, beta
    )
    return loss


class _ChunkedBinaryCrossEntropy(torch.autograd.Function):
    """Loss and the gradient of scores and hidden states in one pass over chunks of positions.

    The table's gradient follows in the backward pass from that of the scores, item by item: there
    nothing of the catalogue's size has to be kept, or scaled afterwards.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        table_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        negatives_NK: Tensor,
        beta: float,
    ) -> Tensor:
        n_rows, n_scored, n_hidden = len(hidden_ND), 1 + negatives_NK.shape[1], hidden_ND.shape[1]
        # Half the size of int64, and sorted in half the time.
        items_NJ = targets_N.new_empty(n_rows, n_scored, dtype=torch.int32)
        items_NJ[:, 0], items_NJ[:, 1:] = targets_N, negatives_NK
        size = rows_at_once(n_scored * n_hidden, table_VD.device, table_VD.itemsize)
        size = min(size, max(n_rows, 1))
        buffer_CJD = table_VD.new_empty(size, n_scored, n_hidden)
        grad_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        score_NJ = table_VD.new_empty(n_rows, n_scored)
        loss_N = table_VD.new_empty(n_rows)
        for start in range(0, n_rows, size):
            chunk = slice(start, start + size)
            hidden_C1D, score_CJ = hidden_ND[chunk, None], score_NJ[chunk]
            item_I = items_NJ[chunk].flatten()
            rows_CJD = buffer_CJD[: len(hidden_C1D)]
            torch.index_select(table_VD, 0, item_I, out=rows_CJD.view(-1, n_hidden))
            # The other way round, a matrix times a column, takes many times as long on a CPU.
            torch.bmm(hidden_C1D, rows_CJD.mT, out=score_CJ[:, None])
            if bias_V is not None:
                score_CJ += bias_V.index_select(0, item_I).view_as(score_CJ)
            loss_N[chunk] = _scores_to_gradient(score_CJ, beta)
            if grad_ND is not None:
                torch.bmm(score_CJ[:, None], rows_CJD, out=grad_ND[chunk, None])
        ctx.save_for_backward(hidden_ND, items_NJ, score_NJ, grad_ND)
        ctx.n_items = len(table_VD)
        return loss_N.mean() / n_scored

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, items_NJ, grad_NJ, grad_ND = ctx.saved_tensors
        scale = outer / grad_NJ.numel()
        wants_table, wants_bias = ctx.needs_input_grad[1:3]
        grads: list[Tensor | None] = [None if grad_ND is None else grad_ND * scale, None, None]
        if wants_table or wants_bias:
            by_item = _ByItem(items_NJ, grad_NJ * scale, ctx.n_items)
            if wants_table:
                grads[1] = by_item.table_gradient(hidden_ND)
            if wants_bias:
                grads[2] = by_item.bias_gradient()
        return *grads, None, None, None


def _scores_to_gradient(score_CJ: Tensor, beta: float) -> Tensor:
    """Losses ``[positions]`` of scores, the target's first, that are replaced by their gradient."""
    # The target is to score high: with its sign turned, all scores are to be low.
    score_CJ[:, 0].neg_()
    loss_CJ = -F.logsigmoid(-score_CJ)
    torch.sigmoid(score_CJ, out=score_CJ)
    loss_CJ[:, 0] *= beta
    score_CJ[:, 0] *= -beta
    return loss_CJ.sum(dim=1)


class _ByItem:
    """Weights ``[positions, scored]`` of pairs of a position and an item, in the items' order.

    In that order a gradient of the table is written once from front to back, and what is read here
    and there is the hidden states, which are few enough for a cache. Adding up the rows pair by
    pair would make a product of each, and jump about in the whole gradient.
    """

    def __init__(self, items_NJ: Tensor, weights_NJ: Tensor, n_items: int) -> None:
        self._n_positions = len(items_NJ)
        item_I, order_I = items_NJ.flatten().sort(stable=True)
        self._weight_I = weights_NJ.flatten().index_select(0, order_I)
        self._position_I = order_I.div_(items_NJ.shape[1], rounding_mode="floor").int()
        count_V = item_I.new_zeros(n_items)
        count_V.index_add_(0, item_I, item_I.new_ones(1).expand_as(item_I))
        self._start_V = (count_V.cumsum(0) - count_V).int()

    def table_gradient(self, hidden_ND: Tensor) -> Tensor:
        """``[items, hidden size]``: of each item's positions, weights times hidden states."""
        return F.embedding_bag(
            self._position_I,
            hidden_ND,
            self._start_V,
            mode="sum",
            per_sample_weights=self._weight_I,
        )

    def bias_gradient(self) -> Tensor:
        """``[items]``: the sum of each item's weights."""
        one_N1 = self._weight_I.new_ones(self._n_positions, 1)
        return self.table_gradient(one_N1).squeeze(1)
