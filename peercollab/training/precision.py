"""In which numbers a model is trained: decided here and nowhere else, with the reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Numbers:
    """How forward pass and loss are computed; weights and optimizer are float32 in any case.

    Attributes
    ----------
    name
        What is used.
    reason
        Why.
    products
        The type of products of matrices; None for float32.
    tf32
        Whether a GPU may round the factors of float32 products to TF32.
    """

    name: str
    reason: str
    products: torch.dtype | None = None
    tf32: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"

    @contextmanager
    def used(self, device: torch.device) -> Iterator[None]:
        """In here, on that kind of device, torch computes so; not for a backward pass."""
        with self.rounding(device), self.casting(device):
            yield

    @contextmanager
    def rounding(self, device: torch.device) -> Iterator[None]:
        """How float32 products are computed, in the backward pass, too."""
        before = torch.get_float32_matmul_precision()
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def casting(self, device: torch.device) -> torch.autocast:
        """For forward pass and loss; the backward pass follows their types by itself."""
        return torch.autocast(device.type, self.products, enabled=self.products is not None)


def choose(wanted: Precision, device_type: str) -> Numbers:
    """The numbers for a kind of device, `cpu` or `cuda`."""
    if wanted == "bf16":
        return Numbers("bf16", "asked for", products=torch.bfloat16)
    if wanted == "fp32":
        return Numbers("fp32", "asked for")
    if device_type == "cuda":
        return Numbers(
            "fp32 with TF32 products",
            "bf16 was not measured on a GPU; --precision bf16 takes it",
            tf32=True,
        )
    return Numbers("fp32", "bf16 was measured slower on a CPU")
