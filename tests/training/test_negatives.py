"""How often each item is drawn as a negative, and from what."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from peercollab.errors import PeercollabError
from peercollab.training.negatives import NegativeSampler
from tests.training.losses import (
    numbers,
)


@pytest.mark.parametrize("draw", ["by_popularity", "uniform"])
def test_the_same_generator_gives_the_same_draws(draw: str) -> None:
    sampler = NegativeSampler(np.arange(100), 50)
    draw_with = (
        sampler.by_popularity
        if draw == "by_popularity"
        else partial(sampler.uniform, targets_N=numbers(100, 7))
    )
    first, second = (np.random.default_rng(3) for _ in range(2))
    drawn = [draw_with(first) for _ in range(3)]
    for earlier in drawn:
        torch.testing.assert_close(draw_with(second), earlier, rtol=0, atol=0)
    assert not torch.equal(drawn[0], drawn[1])


def chi_square(observed: np.ndarray, expected: np.ndarray) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


def test_popularity_draws_items_as_often_as_log_q_says() -> None:
    counts = np.array([0, 3, 0, 50, 7, 1000, 1, 0, 12, 0])
    sampler = NegativeSampler(counts, 100_000)
    drawn = sampler.by_popularity(np.random.default_rng(0))
    assert drawn.dtype == torch.int64
    assert sampler.log_q_V.dtype == torch.float32
    expected = sampler.log_q_V.double().exp().numpy()
    np.testing.assert_allclose(expected, 100_000 * (counts + 1) / (counts + 1).sum(), rtol=1e-5)
    # 9 degrees of freedom: 27.9 is exceeded once in a thousand.
    assert chi_square(np.bincount(drawn, minlength=10), expected) < 27.9


def test_uniform_draws_every_item_but_the_target_equally_often() -> None:
    items, targets = 10, torch.tensor([0, 4, 9])
    sampler = NegativeSampler(np.zeros(items, dtype=np.int64), 90_000)
    drawn = sampler.uniform(np.random.default_rng(0), targets)
    assert drawn.shape == (3, 90_000)
    assert drawn.dtype == torch.int32
    for row, target in zip(drawn, targets.tolist(), strict=True):
        times = np.bincount(row, minlength=items)
        assert times[target] == 0
        # 8 degrees of freedom: 26.1 is exceeded once in a thousand.
        assert chi_square(np.delete(times, target), np.full(items - 1, 10_000)) < 26.1


def test_a_million_items_can_be_drawn_from() -> None:
    sampler = NegativeSampler(np.arange(1_000_000), 100)
    rng = np.random.default_rng(0)
    assert 0 <= sampler.by_popularity(rng).min() <= sampler.by_popularity(rng).max() < 1_000_000
    assert sampler.uniform(rng, numbers(1_000_000, 5)).max() < 1_000_000


def test_two_items_are_enough_to_draw_from() -> None:
    sampler = NegativeSampler(np.array([5, 0]), 4)
    drawn = sampler.uniform(np.random.default_rng(0), torch.tensor([0, 1]))
    assert drawn.tolist() == [[1] * 4, [0] * 4]


@pytest.mark.parametrize(
    ("items", "negatives", "message"), [(1, 5, "catalogue of 1"), (9, 0, "take 1 or more")]
)
def test_what_cannot_be_drawn_is_refused(items: int, negatives: int, message: str) -> None:
    with pytest.raises(PeercollabError, match=message):
        NegativeSampler(np.ones(items, dtype=np.int64), negatives)


class _Operators(TorchDispatchMode):
    """Notes what torch is asked to compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_nothing_is_computed_by_torch_whose_threads_are_for_training() -> None:
    sampler, targets = NegativeSampler(np.arange(100), 50), numbers(100, 7)
    with _Operators() as operators:
        sampler.uniform(np.random.default_rng(3), targets)
        sampler.by_popularity(np.random.default_rng(3))
    assert set(operators.seen) <= {"aten.detach.default", "aten.lift_fresh.default"}
