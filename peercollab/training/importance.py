"""How much a peer's weights matter to its loss, measured while it trains."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Importance:
    """Mean of ``|weight * gradient|`` over an epoch's steps so far and over a tensor's entries.

    The gradients are those of the training steps themselves, so nothing is computed twice.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def restart(self) -> None:
        """Forget the past: a new epoch begins."""
        self._sums.clear()
        self._steps = 0

    @torch.no_grad()
    def add(self, model: nn.Module) -> None:
        """Take in the present gradients, before the weights move by them."""
        for name, weight_T in model.named_parameters():
            if weight_T.grad is not None:
                product = _mean_product(weight_T, weight_T.grad)
                self._sums[name] = self._sums.get(name, torch.zeros_like(product)) + product
        self._steps += 1

    def means(self) -> Mapping[str, Tensor]:
        """float64 scalar of each parameter that had a gradient."""
        return {name: total / self._steps for name, total in self._sums.items()}


def _mean_product(weight_T: Tensor, grad_T: Tensor) -> Tensor:
    """Mean of ``|weight * gradient|`` over all entries; rows without a gradient add nothing."""
    if grad_T.is_sparse:
        grad_T = grad_T.coalesce()
        rows_RD = weight_T[grad_T.indices()[0]]
        return (rows_RD * grad_T.values()).abs().sum(dtype=torch.float64) / weight_T.numel()
    return (weight_T * grad_T).abs().mean(dtype=torch.float64)
