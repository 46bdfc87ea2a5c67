"""What tests of losses share: inputs, a comparison with a reference, and the memory they take."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

CPU = torch.device("cpu")
FLOAT32_BYTES = 4
Leaves = tuple[Tensor, Tensor, Tensor | None]
LossOfLeaves = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Precision = tuple[torch.dtype, float]
DOUBLE: Precision = (torch.float64, 1e-10)
SINGLE: Precision = (torch.float32, 1e-5)
CASES = pytest.mark.parametrize(
    ("positions", "items", "size", "negatives"),
    [
        pytest.param(1, 2, 1, 1, id="smallest"),
        pytest.param(1, 1009, 13, 7, id="one position"),
        pytest.param(33, 101, 5, 1, id="one negative"),
        pytest.param(31, 7, 3, 40, id="more negatives than items"),
        pytest.param(67, 20_011, 5, 19, id="many items"),
        pytest.param(101, 211, 13, 150, id="many negatives"),
    ],
)
WITH_BIAS = pytest.mark.parametrize("with_bias", [True, False])
PRECISIONS = pytest.mark.parametrize("how", [DOUBLE, SINGLE], ids=["float64", "float32"])


def leaves(
    positions: int,
    items: int,
    size: int,
    *,
    with_bias: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Leaves:
    generator = torch.Generator().manual_seed(positions * 1000 + items)
    hidden, table, bias = (
        torch.randn(shape, generator=generator).to(dtype).requires_grad_()
        for shape in ((positions, size), (items, size), (items,))
    )
    return hidden, table, bias if with_bias else None


def numbers(items: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(items + sum(shape))
    return torch.randint(items, shape, generator=generator)


def log_q_of(items: int) -> Tensor:
    return torch.randn(items, generator=torch.Generator().manual_seed(items))


def gradients(loss: Tensor, *of: Tensor | None) -> list[Tensor]:
    """Dense gradients of a loss that something else scales on the way."""
    (3 * loss).backward()
    grads = [leaf.grad for leaf in of if leaf is not None]
    return [grad.to_dense() for grad in grads if grad is not None]


def compare(
    ours: LossOfLeaves, plain: LossOfLeaves, make: Callable[[torch.dtype], Leaves], how: Precision
) -> None:
    """Loss and all gradients, ours in some dtype, the reference in float64."""
    dtype, tolerance = how
    results = []
    for function, precision in ((ours, dtype), (plain, torch.float64)):
        inputs = make(precision)
        loss = function(*inputs)
        assert loss.dtype == precision
        results.append((loss.detach(), *gradients(loss, *inputs)))
    assert len(results[0]) == len(results[1]) >= 3
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=tolerance)


def largest_allocation(work: Callable[[], object]) -> int:
    """Bytes of the largest tensor that comes to be, below any operator too."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    return max(event.nbytes() for event in events if event.name() == "[memory]")
