"""Full softmax cross-entropy over the catalogue, in chunks of rows that fit a cache.

`torch.nn.functional.linear_cross_entropy` does the same from torch 2.13 on, but goes over the
logits once for every step of the softmax. Here it is taken in place (docs/performance.md has
both), and on older versions of torch, too.
"""

from typing import Any

import torch
from torch import Tensor

# Bytes of logits held at once. On a CPU a few megabytes stay in its cache; a GPU wants work
# enough to fill it.
_CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
_FEWEST_ROWS = 32


def rows_at_once(n_items: int, device: torch.device, itemsize: int = 4) -> int:
    """Rows whose scores over the whole catalogue may exist at one time, a power of two."""
    rows = _CHUNK_BYTES.get(device.type, _CHUNK_BYTES["cpu"]) // (n_items * itemsize)
    return max(_FEWEST_ROWS, 1 << max(rows, 1).bit_length() - 1)


def full_cross_entropy(
    hidden_ND: Tensor, table_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor
) -> Tensor:
    """Mean of ``-log softmax(hidden @ table.T + bias)[target]`` over positions: a scalar.

    The logits ``[positions, items]`` never exist as a whole: they are worked through by chunks
    of rows, and the gradients are taken on the way. There is no second derivative.

    Under autocast logits and probabilities have its type; what is summed up over many rows, which
    are losses and the gradients of table and bias, is at least float32.

    Parameters
    ----------
    hidden_ND, table_VD, bias_V
        float ``[positions, hidden size]``, ``[items, hidden size]`` and ``[items]``.
    targets_N
        int64 ``[positions]``: item numbers.
    """
    device_type = hidden_ND.device.type
    dtype = (
        torch.get_autocast_dtype(device_type)
        if torch.is_autocast_enabled(device_type)
        else table_VD.dtype
    )
    loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_ND.to(dtype), table_VD, bias_V, targets_N, dtype
    )
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass: of a chunk, logits become probabilities in place."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        table_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        # Of short numbers the products are good enough; sums of them are not.
        sums = torch.promote_types(dtype, torch.float32)
        table_VD, bias_V = table_VD.to(dtype), None if bias_V is None else bias_V.to(dtype)
        n_rows, n_items = len(hidden_ND), len(table_VD)
        size = min(rows_at_once(n_items, hidden_ND.device, hidden_ND.itemsize), max(n_rows, 1))
        wanted = ctx.needs_input_grad
        buffer_CV = hidden_ND.new_empty(size, n_items)
        grad_ND = torch.empty_like(hidden_ND) if wanted[0] else None
        grad_VD = torch.zeros_like(table_VD, dtype=sums) if wanted[1] else None
        grad_V = hidden_ND.new_zeros(n_items, dtype=sums) if wanted[2] else None
        loss_N = hidden_ND.new_empty(n_rows, dtype=sums)
        for start in range(0, n_rows, size):
            rows = slice(start, start + size)
            hidden_CD, target_C1 = hidden_ND[rows], targets_N[rows, None]
            p_CV = buffer_CV[: len(hidden_CD)]
            if bias_V is None:
                torch.mm(hidden_CD, table_VD.T, out=p_CV)
            else:
                torch.addmm(bias_V, hidden_CD, table_VD.T, out=p_CV)
            # The largest probability is 1 / sum(exp(logit - largest logit)): with it the loss is
            # exact however small the target's probability is.
            loss_C = p_CV.amax(dim=1).to(sums) - p_CV.gather(1, target_C1).squeeze(1)
            torch.softmax(p_CV, dim=1, out=p_CV)
            loss_N[rows] = loss_C - p_CV.amax(dim=1).to(sums).log()
            p_CV.scatter_add_(1, target_C1, p_CV.new_full((1, 1), -1.0).expand_as(target_C1))
            if grad_ND is not None:
                torch.mm(p_CV, table_VD, out=grad_ND[rows])
            if grad_VD is not None and dtype == sums:
                grad_VD.addmm_(p_CV.T, hidden_CD)
            elif grad_VD is not None:
                grad_VD += p_CV.T @ hidden_CD
            if grad_V is not None:
                grad_V += p_CV.sum(dim=0, dtype=sums)
        ctx.save_for_backward(grad_ND, grad_VD, grad_V)
        ctx.n_rows = n_rows
        return loss_N.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        scale = outer / ctx.n_rows
        return *(None if g is None else g * scale for g in ctx.saved_tensors), None, None
