"""Losses with negatives against whole logits and autograd, their memory, and the sampler."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from peercollab.errors import PeercollabError
from peercollab.training import sampled_loss
from peercollab.training.loss import full_cross_entropy, rows_at_once
from peercollab.training.sampled_loss import (
    GBCE_CALIBRATION,
    GBCE_NEGATIVES,
    SAMPLED_NEGATIVES,
    NegativeSampler,
    gbce,
    sampled_softmax,
)

CPU = torch.device("cpu")
FLOAT32_BYTES = 4
Leaves = tuple[Tensor, Tensor, Tensor | None]
LossOfLeaves = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Precision = tuple[torch.dtype, float]
DOUBLE: Precision = (torch.float64, 1e-10)
SINGLE: Precision = (torch.float32, 1e-5)


def plain_sampled_softmax(
    hidden: Tensor, table: Tensor, bias: Tensor | None, y: Tensor, negatives: Tensor, log_q: Tensor
) -> Tensor:
    scores = F.linear(hidden, table, bias)
    drawn = (scores - log_q)[:, negatives].masked_fill(negatives == y[:, None], -torch.inf)
    own = scores.gather(1, y[:, None])
    return F.cross_entropy(torch.cat((own, drawn), dim=1), torch.zeros_like(y))


def plain_gbce(
    hidden: Tensor,
    table: Tensor,
    bias: Tensor | None,
    y: Tensor,
    negatives: Tensor,
    calibration: float,
) -> Tensor:
    scores = F.linear(hidden, table, bias)
    alpha = negatives.shape[1] / (len(table) - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    positive = scores.gather(1, y[:, None]).sigmoid() ** beta
    negative = scores.gather(1, negatives.long()).sigmoid()
    return F.binary_cross_entropy(
        torch.cat((positive, negative), dim=1),
        torch.zeros(len(y), 1 + negatives.shape[1], dtype=scores.dtype).index_fill_(
            1, torch.tensor([0]), 1
        ),
    )


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


def compare_gbce(
    positions: int,
    items: int,
    size: int,
    negatives: int,
    *,
    with_bias: bool,
    how: Precision,
    calibration: float = GBCE_CALIBRATION,
) -> None:
    given = (numbers(items, positions), numbers(items, positions, negatives), calibration)
    compare(
        lambda hidden, table, bias: gbce(hidden, table, bias, *given),
        lambda hidden, table, bias: plain_gbce(hidden, table, bias, *given),
        lambda dtype: leaves(positions, items, size, with_bias=with_bias, dtype=dtype),
        how,
    )


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


@PRECISIONS
@WITH_BIAS
@CASES
def test_sampled_softmax_equals_plain(
    positions: int, items: int, size: int, negatives: int, with_bias: bool, how: Precision
) -> None:
    compare_sampled(positions, items, size, negatives, with_bias=with_bias, how=how)


@PRECISIONS
@WITH_BIAS
@CASES
def test_gbce_equals_plain(
    positions: int, items: int, size: int, negatives: int, with_bias: bool, how: Precision
) -> None:
    compare_gbce(positions, items, size, negatives, with_bias=with_bias, how=how)


@pytest.mark.parametrize("calibration", [0.0, 0.5, 1.0])
def test_gbce_equals_plain_for_every_calibration(calibration: float) -> None:
    compare_gbce(13, 50, 3, 8, with_bias=True, how=DOUBLE, calibration=calibration)


@WITH_BIAS
@pytest.mark.parametrize("positions", [1, 3, 4, 5, 8, 23])
def test_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, positions: int, with_bias: bool
) -> None:
    monkeypatch.setattr(sampled_loss, "rows_at_once", lambda *_: 4)
    compare_sampled(positions, 11, 5, 6, with_bias=with_bias, how=DOUBLE)
    compare_gbce(positions, 11, 5, 6, with_bias=with_bias, how=DOUBLE)


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
    different = sampled_loss._different

    def fixed(
        negatives_K: Tensor, log_q_V: Tensor, dtype: torch.dtype, *, fixed_shape: bool
    ) -> tuple[Tensor, Tensor]:
        assert not fixed_shape
        items_K, offset_K = different(negatives_K, log_q_V, dtype, fixed_shape=True)
        assert len(items_K) == len(offset_K) == negatives
        return items_K, offset_K

    monkeypatch.setattr(sampled_loss, "_different", fixed)
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


def test_scores_too_large_for_an_exponential_give_the_right_losses() -> None:
    hidden = torch.tensor([[1000.0], [-1000.0]]).requires_grad_()
    table = torch.tensor([[1.0], [-1.0], [0.0]]).requires_grad_()
    targets = torch.tensor([0, 0])
    drawn = torch.tensor([1, 2])
    loss = sampled_softmax(hidden, table, None, targets, drawn, torch.zeros(3))
    assert loss.item() == pytest.approx((0 + 2000) / 2)
    beta = 1 - 0.5 * (1 - 1 / 2)
    loss += gbce(hidden, table, None, targets, torch.tensor([[1], [1]]), 0.5)
    assert loss.item() == pytest.approx(1000 + (beta * 1000 + 1000) / 4)
    loss.backward()
    for leaf in (hidden, table):
        assert leaf.grad is not None
        assert leaf.grad.to_dense().isfinite().all()


def test_gbce_without_calibration_is_binary_cross_entropy() -> None:
    inputs = leaves(19, 40, 6)
    targets, negatives = numbers(40, 19), numbers(40, 19, 5)
    scores = F.linear(*inputs).gather(1, torch.cat((targets[:, None], negatives), dim=1))
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    expected = F.binary_cross_entropy_with_logits(scores, labels)
    torch.testing.assert_close(gbce(*inputs, targets, negatives, 0.0), expected)


def test_gbce_takes_numbers_of_either_size() -> None:
    inputs = leaves(9, 40, 6)
    targets, negatives = numbers(40, 9), numbers(40, 9, 5)
    losses = [gbce(*inputs, targets, n, 0.75).item() for n in (negatives, negatives.int())]
    assert losses[0] == losses[1]


def loss_with(which: str, positions: int, items: int) -> LossOfLeaves:
    targets = numbers(items, positions)
    drawn, log_q, own = numbers(items, 6), log_q_of(items), numbers(items, positions, 6)
    if which == "sampled":
        return lambda hidden, table, bias: sampled_softmax(
            hidden, table, bias, targets, drawn, log_q
        )
    return lambda hidden, table, bias: gbce(hidden, table, bias, targets, own, 0.75)


BOTH = pytest.mark.parametrize("which", ["sampled", "gbce"])


@BOTH
@pytest.mark.parametrize("items", [9, 1009])
def test_only_what_is_asked_for_has_a_gradient(which: str, items: int) -> None:
    loss_of, inputs = loss_with(which, 7, items), leaves(7, items, 5)
    loss = loss_of(*inputs)
    whole = gradients(loss, *inputs)
    for only in range(3):
        hidden, table, bias = (
            leaf.detach().requires_grad_(place == only)
            for place, leaf in enumerate(inputs)
            if leaf is not None
        )
        alone = gradients(loss_of(hidden, table, bias), hidden, table, bias)
        assert len(alone) == 1
        torch.testing.assert_close(alone[0], whole[only])
    with torch.no_grad():
        without = loss_of(*inputs)
    assert not without.requires_grad
    assert without.item() == loss.item()


@BOTH
def test_a_backward_pass_can_be_repeated(which: str) -> None:
    hidden, table, bias = leaves(7, 30, 5)
    assert bias is not None
    loss = loss_with(which, 7, 30)(hidden, table, bias)
    first, second = (
        torch.autograd.grad(loss, (hidden, table, bias), retain_graph=True) for _ in range(2)
    )
    for ours, again in zip(first, second, strict=True):
        assert ours.to_dense().any()
        torch.testing.assert_close(ours.to_dense(), again.to_dense(), rtol=0, atol=0)


@BOTH
def test_a_tied_table_adds_both_gradients_up(which: str) -> None:
    """Sparse from the loss, dense or sparse from the way in."""
    history, loss_of = numbers(1009, 7), loss_with(which, 7, 1009)
    results = []
    for sparse in (True, False):
        _, table, bias = leaves(7, 1009, 5)
        hidden = F.embedding(history, table, sparse=sparse)
        results.append(gradients(loss_of(hidden, table, bias), table, bias))
    for ours, other in zip(*results, strict=True):
        torch.testing.assert_close(ours, other)


@BOTH
def test_hidden_states_of_autocast_are_scored_in_the_tables_precision(which: str) -> None:
    hidden, table, bias = leaves(7, 30, 5, dtype=torch.float32)
    hidden = hidden.detach().bfloat16().requires_grad_()
    loss_of = loss_with(which, 7, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(hidden, table, bias)
    assert loss.dtype == torch.float32
    assert loss.item() == loss_of(hidden.detach().float(), table, bias).item()
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16


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


@pytest.mark.parametrize(
    ("items", "is_sparse"), [(39, False), (40, False), (41, True), (4001, True)]
)
def test_gbces_gradients_are_sparse_where_draws_are_fewer_than_half_of_the_items(
    items: int, is_sparse: bool
) -> None:
    hidden, table, bias = leaves(5, items, 3)
    assert bias is not None
    targets, negatives = numbers(items, 5), numbers(items, 5, 3)
    loss = gbce(hidden, table, bias, targets, negatives, 0.75)
    for leaf, grad in zip((table, bias), torch.autograd.grad(loss, (table, bias)), strict=True):
        assert grad.shape == leaf.shape
        assert grad.is_sparse == is_sparse
        if is_sparse:
            assert grad.is_coalesced()
            touched = torch.cat((targets, negatives.flatten())).unique()
            assert grad.indices().tolist() == [touched.tolist()]


def largest_allocation(work: Callable[[], object]) -> int:
    """Bytes of the largest tensor that comes to be, below any operator too."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    return max(event.nbytes() for event in events if event.name() == "[memory]")


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


def test_gbces_rows_of_all_positions_never_exist_at_once() -> None:
    positions, items, size, negatives = 300, 3000, 16, 300
    inputs = leaves(positions, items, size, dtype=torch.float32)
    targets, drawn = numbers(items, positions), numbers(items, positions, negatives)
    scored = 1 + negatives
    chunk = rows_at_once(scored * size, CPU) * scored * size * FLOAT32_BYTES
    rows = positions * scored * size * FLOAT32_BYTES
    largest = largest_allocation(lambda: gbce(*inputs, targets, drawn, 0.75).backward())
    assert largest <= chunk < rows / 2


def test_the_published_defaults() -> None:
    assert (GBCE_NEGATIVES, GBCE_CALIBRATION) == (256, 0.75)
    assert 1000 < SAMPLED_NEGATIVES < 10_000


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
