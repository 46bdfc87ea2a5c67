"""The loss against plain cross-entropy, and its memory."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from peercollab.training import loss as loss_module
from peercollab.training.loss import full_cross_entropy, rows_at_once
from tests.training.losses import CPU, FLOAT32_BYTES, largest_allocation


def plain_cross_entropy(hidden: Tensor, table: Tensor, bias: Tensor | None, y: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, table, bias), y)


def case(
    positions: int, items: int, size: int, *, with_bias: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    generator = torch.Generator().manual_seed(positions * 1000 + items)
    hidden, table, bias = (
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in ((positions, size), (items, size), (items,))
    )
    targets = torch.randint(items, (positions,), generator=generator)
    return hidden, table, bias if with_bias else None, targets


def compare(
    positions: int,
    items: int,
    size: int,
    *,
    with_bias: bool,
    dtype: torch.dtype = torch.float64,
    tolerance: float = 1e-10,
) -> None:
    """Loss and all gradients, of a loss that something else scales on the way."""
    results = []
    for function in (full_cross_entropy, plain_cross_entropy):
        hidden, table, bias, targets = case(
            positions, items, size, with_bias=with_bias, dtype=dtype
        )
        loss = function(hidden, table, bias, targets)
        (3 * loss).backward()
        gradients = [leaf.grad for leaf in (hidden, table, bias) if leaf is not None]
        results.append((loss.detach(), *gradients))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("positions", [1, 2, 31, 33, 101])
@pytest.mark.parametrize(("items", "size"), [(1, 3), (2, 1), (7, 5), (1009, 13)])
def test_loss_and_gradients_equal_plain_cross_entropy(
    positions: int, items: int, size: int, with_bias: bool
) -> None:
    compare(positions, items, size, with_bias=with_bias)


@pytest.mark.parametrize("with_bias", [True, False])
def test_loss_and_gradients_equal_in_float32(with_bias: bool) -> None:
    compare(77, 333, 9, with_bias=with_bias, dtype=torch.float32, tolerance=2e-6)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("positions", [1, 3, 4, 5, 8, 23])
def test_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, positions: int, with_bias: bool
) -> None:
    monkeypatch.setattr(loss_module, "_FEWEST_ROWS", 4)
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 1)
    assert rows_at_once(11, CPU) == 4
    compare(positions, 11, 5, with_bias=with_bias)


def test_scores_too_large_for_an_exponential_give_the_right_loss() -> None:
    hidden = torch.tensor([[1000.0], [-1000.0]])
    table = torch.tensor([[1.0], [-1.0], [0.0]])
    loss = full_cross_entropy(hidden, table, None, torch.tensor([0, 0]))
    assert loss.item() == pytest.approx((0 + 2000) / 2)


def test_a_uniform_score_costs_the_logarithm_of_the_catalogue() -> None:
    loss = full_cross_entropy(torch.zeros(5, 4), torch.randn(50, 4), None, torch.arange(5))
    assert loss.item() == pytest.approx(torch.tensor(50.0).log().item(), rel=1e-6)


def test_the_logits_of_all_positions_never_exist_at_once() -> None:
    positions, items, size = 600, 20_000, 2
    hidden, table, bias, targets = case(positions, items, size, with_bias=True, dtype=torch.float32)
    chunk = rows_at_once(items, CPU) * items * FLOAT32_BYTES
    logits = positions * items * FLOAT32_BYTES
    assert chunk <= loss_module._CHUNK_BYTES["cpu"] < logits / 5
    ours = largest_allocation(lambda: full_cross_entropy(hidden, table, bias, targets).backward())
    plain = largest_allocation(lambda: plain_cross_entropy(hidden, table, bias, targets).backward())
    assert plain >= logits
    assert ours <= chunk


@pytest.mark.parametrize("items", [1, 2, 100, 3416, 65_536, 235_061, 10_000_000])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rows_at_once_are_the_largest_power_of_two_that_fits(items: int, device: str) -> None:
    rows = rows_at_once(items, torch.device(device))
    budget = loss_module._CHUNK_BYTES[device]
    assert rows.bit_count() == 1
    if rows == loss_module._FEWEST_ROWS:
        assert 2 * rows * items * FLOAT32_BYTES > budget
    else:
        assert rows * items * FLOAT32_BYTES <= budget < 2 * rows * items * FLOAT32_BYTES
