"""Losses that score a few negatives in place of the whole catalogue, and where these come from.

Their cost does not depend on the number of items, so they are for catalogues that
`full_cross_entropy` is too slow for. Dimensions, beside N positions, D hidden size and V items:
K negatives drawn, U different ones among them, J = 1 + K items scored at a position (its target
first), C positions of a chunk, R rows of the table with a gradient.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from peercollab.data.sequences import Int64Array
from peercollab.errors import PeercollabError
from peercollab.training.loss import rows_at_once

# "Several thousand" in "Deep Neural Networks for YouTube Recommendations" (RecSys 2016), section
# 3.1; which number of thousands is ours.
SAMPLED_NEGATIVES = 4096

# The defaults of gSASRec (RecSys 2023, arXiv 2308.07192).
GBCE_NEGATIVES = 256
GBCE_CALIBRATION = 0.75

# Draws per item of the catalogue from which gBCE's gradient is dense. With one for every two items
# two fifths of all rows are touched, and a list of their numbers saves an optimizer nothing more.
_DENSE_FROM = 0.5

# Added to each item's count: an item that nobody has must be pushed down, too.
_ADDED_COUNT = 1


class NegativeSampler:
    """Draws items to be scored as negatives; every draw is a function of the generator alone.

    Parameters
    ----------
    counts_V
        int64 ``[items]``: training interactions of each.
    negatives
        How many are drawn: for all positions of a step together, or for each of them.

    Attributes
    ----------
    log_q_V : Tensor
        float32 ``[items]``: the logarithm of how often `by_popularity` is expected to draw each.

    Raises
    ------
    PeercollabError
        There are fewer than two items, or fewer than one negative is asked for.
    """

    def __init__(self, counts_V: Int64Array, negatives: int) -> None:
        if len(counts_V) < 2:
            raise PeercollabError(
                f"negatives cannot be drawn from a catalogue of {len(counts_V)}: use --loss full"
            )
        if negatives < 1:
            raise PeercollabError(f"{negatives} negatives were asked for: take 1 or more")
        self.negatives = negatives
        smoothed_V = counts_V + _ADDED_COUNT
        # Whole numbers, so that the probabilities are exact however many items there are.
        self._up_to_V = np.cumsum(smoothed_V)
        expected_V = negatives * smoothed_V / self._up_to_V[-1]
        self.log_q_V = torch.from_numpy(np.log(expected_V).astype(np.float32))

    def by_popularity(self, generator: np.random.Generator) -> Tensor:
        """int64 ``[negatives]``, with replacement, in ascending order.

        An item's probability is its share of all training interactions, 1 added to each count.
        Targets are drawn like others: it is for the loss to leave them out.
        """
        ticket_K = generator.integers(self._up_to_V[-1], size=self.negatives)
        # In order, neighbouring searches walk through the same part of the memory.
        ticket_K.sort()
        return torch.from_numpy(np.searchsorted(self._up_to_V, ticket_K, side="right"))

    def uniform(self, generator: np.random.Generator, targets_N: Tensor) -> Tensor:
        """int32 ``[positions, negatives]``, with replacement, never a position's own target.

        That is how gSASRec's paper defines negatives; its released code draws from all items.

        Parameters
        ----------
        targets_N
            int64 ``[positions]``, on the CPU.
        """
        size = (len(targets_N), self.negatives)
        others = len(self._up_to_V) - 1
        drawn_NK = torch.from_numpy(generator.integers(others, size=size, dtype=np.int32))
        # Numbers of the others count on past the target.
        drawn_NK += drawn_NK >= targets_N[:, None]
        return drawn_NK


def sampled_softmax(
    hidden_ND: Tensor,
    table_VD: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    negatives_K: Tensor,
    log_q_V: Tensor,
) -> Tensor:
    """Mean cross-entropy of the target among it and negatives that all positions share: a scalar.

    With ``s`` for scores ``hidden @ table.T + bias`` and ``q`` for expected numbers of draws, a
    position with target t costs::

        -log(exp(s_t) / (exp(s_t) + sum over draws d other than t of exp(s_d) / q_d))

    The sum's expectation is that over all items other than t, so with more and more draws this
    becomes the full cross-entropy, in value and gradient. Draws are weighed as in "Adaptive
    Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model" (IEEE
    Transactions on Neural Networks, 2008). The logQ correction of "Sampling-Bias-Corrected Neural
    Modeling for Large Corpus Item Recommendations" (RecSys 2019) is the same, but is applied to
    the target's score, too. Ours is not: the target is there always, whatever its q. "Correcting
    the LogQ Correction" (RecSys 2025, arXiv 2507.09331) makes that point, and weighs a position by
    the probability of a miss, as the gradient of this loss does.

    Neither time nor memory grows with the catalogue: gradients of table and bias are sparse, of
    the rows that are targets or drawn. There is no second derivative.

    Parameters
    ----------
    hidden_ND, table_VD, bias_V
        float ``[positions, hidden size]``, ``[items, hidden size]`` and ``[items]``. Scores have
        the table's dtype.
    targets_N
        int64 ``[positions]``: item numbers.
    negatives_K
        int64 ``[negatives]``, in any order; an item counts as often as it was drawn.
    log_q_V
        float ``[items]``: the logarithm of each item's expected number of draws.
    """
    loss: Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        hidden_ND.to(table_VD.dtype), table_VD, bias_V, targets_N, negatives_K, log_q_V
    )
    return loss


class _SampledSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of positions.

    With p the softmax over the draws alone and ``miss = 1 - P(target)``, the gradient is
    ``miss * (sum of p_d * grad s_d - grad s_target)``: the target needs no column of its own, and
    `miss`, a factor of rows, meets the hidden states and never the scores.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        table_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        negatives_K: Tensor,
        log_q_V: Tensor,
    ) -> Tensor:
        wants_hidden, wants_table, wants_bias = ctx.needs_input_grad[:3]
        lowest = torch.finfo(table_VD.dtype).min
        items_U, offset_U = _different(
            negatives_K, log_q_V, table_VD.dtype, fixed_shape=table_VD.is_cuda
        )
        own_ND = table_VD[targets_N]
        target_N = (hidden_ND * own_ND).sum(dim=1)
        if bias_V is not None:
            offset_U = offset_U + bias_V[items_U]
            target_N += bias_V[targets_N]
        rows_UD = table_VD[items_U]
        # Where a position's target would stand among the draws, and whether it stands there.
        place_N1 = torch.searchsorted(items_U, targets_N).clamp_(max=len(items_U) - 1)[:, None]
        is_hit_N1 = items_U[place_N1] == targets_N[:, None]

        n_rows, n_items = len(hidden_ND), len(items_U)
        size = min(rows_at_once(n_items, hidden_ND.device, table_VD.itemsize), max(n_rows, 1))
        buffer_CU = table_VD.new_empty(size, n_items)
        above_N, miss_N = torch.empty_like(target_N), torch.empty_like(target_N)
        grad_ND = torch.empty_like(hidden_ND) if wants_hidden else None
        grad_UD = torch.zeros_like(rows_UD) if wants_table else None
        grad_U = torch.zeros_like(offset_U) if wants_bias else None
        for start in range(0, n_rows, size):
            chunk = slice(start, start + size)
            hidden_CD, place_C1 = hidden_ND[chunk], place_N1[chunk]
            p_CU = buffer_CU[: len(hidden_CD)]
            torch.addmm(offset_U, hidden_CD, rows_UD.T, out=p_CU)
            # The lowest finite number: a row of nothing else still has a softmax.
            drawn_C1 = p_CU.gather(1, place_C1).masked_fill_(is_hit_N1[chunk], lowest)
            p_CU.scatter_(1, place_C1, drawn_C1)
            # How far the draws' log-sum-exp is above the target's score; the largest probability
            # is 1 / sum(exp(score - largest score)).
            largest_C = p_CU.amax(dim=1)
            torch.softmax(p_CU, dim=1, out=p_CU)
            above_C = above_N[chunk]
            torch.sub(largest_C - target_N[chunk], p_CU.amax(dim=1).log(), out=above_C)
            miss_C = torch.sigmoid(above_C, out=miss_N[chunk])
            if grad_ND is not None:
                torch.mm(p_CU, rows_UD, out=grad_ND[chunk])
            if grad_UD is not None:
                grad_UD.addmm_(p_CU.T, hidden_CD * miss_C[:, None])
            if grad_U is not None:
                grad_U.addmv_(p_CU.T, miss_C)
        if grad_ND is not None:
            grad_ND.sub_(own_ND).mul_(miss_N[:, None])
        ctx.save_for_backward(hidden_ND, targets_N, items_U, miss_N, grad_ND, grad_UD, grad_U)
        ctx.n_items = len(table_VD)
        return -F.logsigmoid(-above_N).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, targets_N, items_U, miss_N, grad_ND, grad_UD, grad_U = ctx.saved_tensors
        scale = outer / len(hidden_ND)
        items_R = torch.cat((items_U, targets_N))
        down_N = miss_N * -scale
        grads: list[Tensor | None] = [None if grad_ND is None else grad_ND * scale, None, None]
        if grad_UD is not None:
            values_RD = torch.cat((grad_UD * scale, hidden_ND * down_N[:, None]))
            grads[1] = _summed_rows(items_R, values_RD, ctx.n_items)
        if grad_U is not None:
            grads[2] = _summed_rows(items_R, torch.cat((grad_U * scale, down_N)), ctx.n_items)
        return *grads, None, None, None


def _different(
    negatives_K: Tensor, log_q_V: Tensor, dtype: torch.dtype, *, fixed_shape: bool
) -> tuple[Tensor, Tensor]:
    """The draws in ascending order, each once, and what to add to their scores.

    That is the logarithm of how often an item was drawn over how often it was expected to be. To
    leave repeated draws out a GPU would be waited for: with a fixed shape they stay, and weigh
    nothing.
    """
    items_K = negatives_K.sort().values
    first_K = torch.searchsorted(items_K, items_K)
    times_K = torch.searchsorted(items_K, items_K, right=True) - first_K
    offset_K = times_K.to(dtype).log_().sub_(log_q_V[items_K])
    is_first_K = first_K == torch.arange(len(items_K), device=items_K.device)
    if fixed_shape:
        return items_K, offset_K.masked_fill_(~is_first_K, torch.finfo(dtype).min)
    return items_K[is_first_K], offset_K[is_first_K]


def _summed_rows(items_R: Tensor, values_R: Tensor, n_items: int) -> Tensor:
    """A sparse ``[items, ...]`` of values ``[rows, ...]``; those of the same item add up."""
    shape = (n_items, *values_R.shape[1:])
    sparse = torch.sparse_coo_tensor(items_R[None], values_R, shape, check_invariants=False)
    # On a GPU the optimizer adds them up, when all of the backward pass has been asked for.
    return sparse if sparse.is_cuda else sparse.coalesce()


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

    The rows ``[positions, 1 + K, hidden size]`` never exist as a whole. Gradients of table and bias
    are sparse where the draws are fewer than half of the items, and dense where they are more,
    when they touch much of the table: which of the two depends on shapes alone, but can change
    with a batch's number of positions. There is no second derivative.

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
        self._n_positions, self._n_items = len(items_NJ), n_items
        item_I, order_I = items_NJ.flatten().sort(stable=True)
        self._weight_I = weights_NJ.flatten().index_select(0, order_I)
        self._position_I = order_I.div_(items_NJ.shape[1], rounding_mode="floor").int()
        self._items_R: Tensor | None = None
        if len(item_I) < _DENSE_FROM * n_items:
            # How many rows are touched is for the device to say: a GPU is waited for here.
            self._items_R, count_R = torch.unique_consecutive(item_I, return_counts=True)
        else:
            count_R = item_I.new_zeros(n_items)
            count_R.index_add_(0, item_I, item_I.new_ones(1).expand_as(item_I))
        self._start_R = (count_R.cumsum(0) - count_R).int()

    def table_gradient(self, hidden_ND: Tensor) -> Tensor:
        """``[items, hidden size]``: of each item's positions, weights times hidden states."""
        return self._gradient(self._weighted_sum(hidden_ND))

    def bias_gradient(self) -> Tensor:
        """``[items]``: the sum of each item's weights."""
        one_N1 = self._weight_I.new_ones(self._n_positions, 1)
        return self._gradient(self._weighted_sum(one_N1).squeeze(1))

    def _weighted_sum(self, of_ND: Tensor) -> Tensor:
        return F.embedding_bag(
            self._position_I, of_ND, self._start_R, mode="sum", per_sample_weights=self._weight_I
        )

    def _gradient(self, sums_R: Tensor) -> Tensor:
        if self._items_R is None:
            return sums_R
        return torch.sparse_coo_tensor(
            self._items_R[None],
            sums_R,
            (self._n_items, *sums_R.shape[1:]),
            check_invariants=False,
            is_coalesced=True,
        )
