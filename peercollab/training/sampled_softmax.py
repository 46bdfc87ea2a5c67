"""Softmax cross-entropy over a few negatives that all positions of a step share.

Its cost does not depend on the number of items: for catalogues that `full_cross_entropy` is too
slow for. Dimensions, beside N positions, D hidden size and V items: K negatives drawn, U different
ones among them, C positions of a chunk, R rows of the table with a gradient.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from peercollab.training.loss import rows_at_once

# "Several thousand" in "Deep Neural Networks for YouTube Recommendations" (RecSys 2016), section
# 3.1; which number of thousands is ours.
SAMPLED_NEGATIVES = 4096


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


def with_dense_gradient(values_T: Tensor) -> Tensor:
    """The same values, which hand a sparse gradient on as a dense one, to whatever they are of."""
    same_T: Tensor = _DenseGradient.apply(values_T)  # type: ignore[no-untyped-call]
    return same_T


class _DenseGradient(torch.autograd.Function):
    """Changes nothing but the layout of the gradient."""

    @staticmethod
    def forward(ctx: Any, values_T: Tensor) -> Tensor:
        return values_T.view_as(values_T)

    @staticmethod
    def backward(ctx: Any, outer_T: Tensor) -> Tensor:
        return outer_T.to_dense()


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
