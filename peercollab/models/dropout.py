"""Dropout that costs little on a CPU, where torch's own takes longer than the layers around it."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


class Dropout(nn.Module):
    """Set a share of entries to 0 while training, and scale the others so that the mean stays.

    On a CPU entries are dropped by 16 random bits each, from torch's generator, so the share is `p`
    rounded to a multiple of 1/65536; the scale is that of the rounded share. Elsewhere, and where
    a compiler follows, it is `torch.nn.functional.dropout`.

    Parameters
    ----------
    p
        Share of entries that are dropped, from 0 up to, not including, 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x_T: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x_T
        if x_T.device.type != "cpu" or x_T.dtype != torch.float32 or torch.compiler.is_compiling():
            return F.dropout(x_T, self.p)
        dropped: Tensor = _DropOnCPU.apply(x_T, self.p)  # type: ignore[no-untyped-call]
        return dropped

    def extra_repr(self) -> str:
        return f"p={self.p}"


class _DropOnCPU(torch.autograd.Function):
    """Random bits by the word from torch, compared and multiplied by numpy.

    torch draws a Bernoulli number an entry, and multiplies numbers by booleans, at a tenth of the
    speed.
    """

    @staticmethod
    def forward(ctx: Any, x_T: Tensor, p: float) -> Tensor:
        level = min(round(p * _LEVELS), _LEVELS - 1)
        words = torch.empty(-(-x_T.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        drawn = words.numpy().view(np.uint16)[: x_T.numel()].reshape(x_T.shape)
        ctx.scale = _LEVELS / (_LEVELS - level)
        ctx.kept = drawn >= level
        return _times(x_T, ctx.kept, ctx.scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_T: Tensor) -> tuple[Tensor, None]:
        return _times(grad_T, ctx.kept, ctx.scale), None


def _times(x_T: Tensor, kept: np.ndarray, scale: float) -> Tensor:
    product_T = torch.empty(x_T.shape, dtype=torch.float32)
    with np.errstate(all="ignore"):  # What has diverged is noticed and told elsewhere.
        np.multiply(x_T.numpy(), kept, out=product_T.numpy())
    return product_T.mul_(scale)
