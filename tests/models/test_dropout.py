"""Dropout of the CPU: what it drops, what it keeps, and its gradient."""

import pytest
import torch
from torch import Tensor

from peercollab.models.dropout import Dropout


def drop(x_T: Tensor, p: float, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    return Dropout(p).train()(x_T)


@pytest.fixture(autouse=True)
def own_generator() -> object:
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_a_share_is_dropped_and_the_others_are_scaled(p: float) -> None:
    after = drop(torch.ones(1000, 1000), p)
    dropped = after == 0
    # Of a million entries the share is within five standard deviations.
    assert dropped.float().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p)) ** 0.5 / 1000)
    assert (after[~dropped] == after.max()).all()
    assert after.max().item() == pytest.approx(1 / (1 - p), rel=2**-15 / (1 - p))
    # Neither rows nor columns hang together.
    for dim in (0, 1):
        assert dropped.float().mean(dim).std().item() < 1.3 * (p * (1 - p) / 1000) ** 0.5


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 5), (0, 4)])
def test_the_gradient_goes_where_the_entry_was_kept(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    after = drop(x, 0.4)
    after.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(after, x.detach() * x.grad)
    assert after.shape == x.shape


def test_layout_in_memory_makes_no_difference() -> None:
    x = torch.randn(6, 5)
    strided = x.T.contiguous().T
    assert not strided.is_contiguous()
    assert torch.equal(drop(x, 0.3), drop(strided, 0.3))
    one, other = x.clone().requires_grad_(), strided.clone().requires_grad_()
    for leaf in (one, other):
        # An expanded gradient, as a sum gives it.
        drop(leaf, 0.3).sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    assert torch.equal(one.grad, other.grad)


def test_torchs_default_dtype_makes_no_difference() -> None:
    x = torch.ones(100, 10, requires_grad=True)
    expected = drop(x, 0.5)
    torch.set_default_dtype(torch.float64)
    try:
        after = drop(x, 0.5)
        after.sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert after.dtype == torch.float32
    assert torch.equal(after, expected)


def test_draws_come_from_torchs_generator() -> None:
    x = torch.ones(100, 10)
    assert torch.equal(drop(x, 0.5), drop(x, 0.5))
    assert not torch.equal(drop(x, 0.5), drop(x, 0.5, seed=2))
    layer = Dropout(0.5).train()
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_dropped_where_nothing_should_be(p: float, training: bool) -> None:
    x = torch.randn(4, 4)
    assert Dropout(p).train(training)(x) is x


def test_an_input_is_not_changed() -> None:
    x = torch.randn(9, 9)
    before = x.clone()
    drop(x, 0.5)
    assert torch.equal(x, before)


def test_other_number_types_are_dropped_too() -> None:
    after = drop(torch.ones(1000, dtype=torch.float64), 0.5)
    assert after.dtype == torch.float64
    assert 300 < (after == 0).sum() < 700
