"""What the machine can do at most, measured then and there: copying, and multiplying matrices."""

from collections.abc import Callable

import numpy as np
import torch

from peercollab.training.precision import Numbers
from scripts.benchmarks.measure import GIGA, finish, seconds

CHUNKS = {
    "cpu": (64, 128, 256, 512, 1024, 2048),
    "cuda": (512, 1024, 2048, 4096, 8192, 16384, 32768),
}
COPY_BYTES = 1 << 27

# Logits, gradient of the hidden states, gradient of the table: each multiplies and adds once for
# every position, item and dimension.
FLOPS_OF_HEAD = 6


def copy_seconds(n_bytes: int) -> Callable[[], float]:
    """A measurement of one copy of so many bytes of main memory, in one thread (seconds)."""
    source = np.ones(n_bytes // 4, dtype=np.float32)
    target = np.zeros_like(source)
    here = torch.device("cpu")

    def copy() -> float:
        return seconds(lambda: np.copyto(target, source), here)

    copy()
    return copy


def copy_rate(device: torch.device) -> Callable[[], float]:
    """A measurement of copying within the device (GB/s): each byte that is copied counts once."""
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.zeros_like(source)

    def copy() -> float:
        return COPY_BYTES / seconds(lambda: target.copy_(source), device) / GIGA

    copy()
    return copy


class HeadProducts:
    """The three products of the output layer, and nothing else: the limit of training.

    Of a chunk of positions: ``logits = hidden @ table.T``, the gradient of the hidden states
    ``logits @ table``, and that of the table ``logits.T @ hidden``, each by `torch.mm` into memory
    that is there already. Several sizes of chunks are tried, and the fastest counts.

    The limit is the mean of the three rates. All three in a row reach ``3 / sum(1 / rate)``, which
    is less wherever the rates differ: a share of the mean is the stricter figure.

    Parameters
    ----------
    hidden_size, n_items
        Sizes of the products.
    device, numbers
        Where they are measured, and in what.
    least_seconds
        How long all sizes together are measured for, more or less.
    """

    def __init__(
        self,
        hidden_size: int,
        n_items: int,
        device: torch.device,
        numbers: Numbers,
        least_seconds: float,
    ) -> None:
        chunks = CHUNKS.get(device.type, CHUNKS["cpu"])
        self._device = device
        self._numbers = numbers
        self._least_seconds = least_seconds
        self._chunks = chunks
        dtype = numbers.products or torch.float32
        self._hidden_CD = torch.randn(max(chunks), hidden_size, dtype=dtype, device=device)
        self._table_VD = torch.randn(n_items, hidden_size, dtype=dtype, device=device)
        self._logits_CV = torch.empty(max(chunks), n_items, dtype=dtype, device=device)
        self._hidden_gradient_CD = torch.empty_like(self._hidden_CD)
        self._table_gradient_VD = torch.empty_like(self._table_VD)

    def rate(self) -> float:
        """Mean rate of the three products (GFLOP/s), at the chunk size where it is highest."""
        with self._numbers.used(self._device):
            return max(float(np.mean(self._rates(chunk))) for chunk in self._chunks) / GIGA

    def _rates(self, chunk: int) -> list[float]:
        """Rate of each product (FLOP/s)."""
        hidden_CD, logits_CV = self._hidden_CD[:chunk], self._logits_CV[:chunk]
        hidden_gradient_CD = self._hidden_gradient_CD[:chunk]
        table_VD, table_gradient_VD = self._table_VD, self._table_gradient_VD
        products: tuple[Callable[[], object], ...] = (
            lambda: torch.mm(hidden_CD, table_VD.T, out=logits_CV),
            lambda: torch.mm(logits_CV, table_VD, out=hidden_gradient_CD),
            lambda: torch.mm(logits_CV.T, hidden_CD, out=table_gradient_VD),
        )
        flops = FLOPS_OF_HEAD / len(products) * chunk * table_VD.numel()
        return [flops / self._seconds_each(product) for product in products]

    def _seconds_each(self, product: Callable[[], object]) -> float:
        product()
        finish(self._device)
        once = seconds(product, self._device)
        repeats = max(1, int(self._least_seconds / len(self._chunks) / 3 / max(once, 1e-7)))
        return seconds(lambda: [product() for _ in range(repeats)], self._device) / repeats
