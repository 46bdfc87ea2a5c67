"""Sampled softmax against whole logits and autograd, and its memory."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from peercollab.training import sampled_softmax as module
from peercollab.training.loss import full_cross_entropy, rows_at_once
from peercollab.training.negatives import NegativeSampler
from peercollab.training.sampled_softmax import SAMPLED_NEGATIVES, sampled_softmax
from tests.training.losses import (
    CASES,
    CPU,
    DOUBLE,
    FLOAT32_BYTES,
    PRECISIONS,
    WITH_BIAS,
    Precision,
    compare,
    gradients,
    largest_allocation,
    leaves,
    log_q_of,
    numbers,
)


def plain_sampled_softmax(
    hidden: Tensor, table: Tensor, bias: Tensor | None, y: Tensor, negatives: Tensor, log_q: Tensor
) -> Tensor:
    scores = F.linear(hidden, table, bias)
    drawn = (scores - log_q)[:, negatives].masked_fill(negatives == y[:, None], -torch.inf)
    own = scores.gather(1, y[:, None])
    return F.cross_entropy(torch.cat((own, drawn), dim=1), torch.zeros_like(y))


def compare_sampled(
    positions: int, items: int, size: int, negatives: int, *, with_bias: bool, how: Precision
) -> None:
    given = (numbers(items, positions), numbers(items, negatives), log_q_of(items))
    compare(
        lambda hidden, table, bias: sampled_softmax(hidden, table, bias, *given),
        lambda hidden, table, bias: plain_sampled_softmax(hidden, table, bias, *given),
        lambda dtype: leaves(positions, items, size, with_bias=with_bias, dtype=dtype),
        how,
    )


@PRECISIONS
@WITH_BIAS
@CASES
def test_sampled_softmax_equals_plain(
    positions: int, items: int, size: int, negatives: int, with_bias: bool, how: Precision
) -> None:
    compare_sampled(positions, items, size, negatives, with_bias=with_bias, how=how)


@WITH_BIAS
@pytest.mark.parametrize("positions", [1, 3, 4, 5, 8, 23])
def test_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, positions: int, with_bias: bool
) -> None:
    monkeypatch.setattr(module, "rows_at_once", lambda *_: 4)
    compare_sampled(positions, 11, 5, 6, with_bias=with_bias, how=DOUBLE)


@WITH_BIAS
@CASES
def test_the_form_for_gpus_equals_plain(
    monkeypatch: pytest.MonkeyPatch,
    positions: int,
    items: int,
    size: int,
    negatives: int,
    with_bias: bool,
) -> None:
    """There repeated draws keep their places."""
    different = module._different

    def fixed(
        negatives_K: Tensor, log_q_V: Tensor, dtype: torch.dtype, *, fixed_shape: bool
    ) -> tuple[Tensor, Tensor]:
        assert not fixed_shape
        items_K, offset_K = different(negatives_K, log_q_V, dtype, fixed_shape=True)
        assert len(items_K) == len(offset_K) == negatives
        return items_K, offset_K

    monkeypatch.setattr(module, "_different", fixed)
    compare_sampled(positions, items, size, negatives, with_bias=with_bias, how=DOUBLE)


def test_all_items_as_negatives_give_the_full_cross_entropy() -> None:
    positions, items = 23, 57
    targets = numbers(items, positions)
    everything = torch.randperm(items, generator=torch.Generator().manual_seed(1))
    no_correction = torch.zeros(items)
    compare(
        lambda hidden, table, bias: sampled_softmax(
            hidden, table, bias, targets, everything, no_correction
        ),
        lambda hidden, table, bias: F.cross_entropy(F.linear(hidden, table, bias), targets),
        lambda dtype: leaves(positions, items, 7, dtype=dtype),
        DOUBLE,
    )


def test_a_position_whose_every_negative_is_its_target_costs_nothing() -> None:
    inputs = leaves(3, 9, 4)
    targets, negatives = torch.tensor([5, 5, 5]), torch.tensor([5, 5])
    loss = sampled_softmax(*inputs, targets, negatives, log_q_of(9))
    assert loss.item() == 0
    for grad in gradients(loss, *inputs):
        assert not grad.any()


def test_the_mean_gradient_approaches_the_full_one_as_negatives_grow() -> None:
    """With targets and draws of unequal popularity."""
    positions, items, steps = 40, 30, 100
    rng = np.random.default_rng(0)
    counts = (rng.pareto(1.5, items) * 20).astype(np.int64)
    targets = torch.from_numpy(rng.choice(items, positions, p=(counts + 1) / (counts + 1).sum()))
    inputs = leaves(positions, items, 4)
    full = gradients(full_cross_entropy(*inputs, targets), *inputs)
    distances = []
    for negatives in (8, 64, 4096):
        sampler = NegativeSampler(counts, negatives)
        sums = [torch.zeros_like(grad) for grad in full]
        for _ in range(steps):
            inputs = leaves(positions, items, 4)
            drawn = sampler.by_popularity(rng)
            loss = sampled_softmax(*inputs, targets, drawn, sampler.log_q_V)
            for total, grad in zip(sums, gradients(loss, *inputs), strict=True):
                total += grad / steps
        distances.append(
            [
                ((ours - exact).norm() / exact.norm()).item()
                for ours, exact in zip(sums, full, strict=True)
            ]
        )
    assert distances[0] > distances[1] > distances[2]
    assert max(distances[2]) < 0.02


def test_scores_too_large_for_an_exponential_give_the_right_loss() -> None:
    hidden = torch.tensor([[1000.0], [-1000.0]]).requires_grad_()
    table = torch.tensor([[1.0], [-1.0], [0.0]]).requires_grad_()
    targets = torch.tensor([0, 0])
    drawn = torch.tensor([1, 2])
    loss = sampled_softmax(hidden, table, None, targets, drawn, torch.zeros(3))
    assert loss.item() == pytest.approx((0 + 2000) / 2)
    for grad in gradients(loss, hidden, table):
        assert grad.isfinite().all()


def test_sampled_gradients_hold_the_rows_touched_and_no_others() -> None:
    hidden, table, bias = leaves(5, 1000, 3)
    assert bias is not None
    targets, drawn = torch.tensor([7, 900, 7, 20, 3]), torch.tensor([20, 500, 500, 1])
    loss = sampled_softmax(hidden, table, bias, targets, drawn, log_q_of(1000))
    for leaf, grad in zip((table, bias), torch.autograd.grad(loss, (table, bias)), strict=True):
        assert grad.layout == torch.sparse_coo
        assert grad.shape == leaf.shape
        assert grad.is_coalesced()
        assert grad.indices().tolist() == [[1, 3, 7, 20, 500, 900]]


def test_the_memory_of_sampled_softmax_does_not_grow_with_the_catalogue() -> None:
    positions, negatives = 3000, 1000
    targets, drawn = numbers(1000, positions), numbers(1000, negatives)

    def largest(items: int) -> int:
        inputs, log_q = leaves(positions, items, 4, dtype=torch.float32), log_q_of(items)
        return largest_allocation(
            lambda: sampled_softmax(*inputs, targets, drawn, log_q).backward()
        )

    chunk = rows_at_once(negatives, CPU) * negatives * FLOAT32_BYTES
    assert chunk < positions * negatives * FLOAT32_BYTES
    assert largest(1000) == largest(300_000) <= chunk


def test_the_number_of_negatives_is_several_thousand() -> None:
    assert 1000 < SAMPLED_NEGATIVES < 10_000
