"""gBCE against whole logits and autograd, and its memory."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from peercollab.training import gbce as module
from peercollab.training.gbce import GBCE_CALIBRATION, GBCE_NEGATIVES, gbce
from peercollab.training.loss import rows_at_once
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
    numbers,
)


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
    monkeypatch.setattr(module, "rows_at_once", lambda *_: 4)
    compare_gbce(positions, 11, 5, 6, with_bias=with_bias, how=DOUBLE)


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


def test_scores_too_large_for_an_exponential_give_the_right_loss() -> None:
    hidden = torch.tensor([[1000.0], [-1000.0]]).requires_grad_()
    table = torch.tensor([[1.0], [-1.0], [0.0]]).requires_grad_()
    targets = torch.tensor([0, 0])
    loss = gbce(hidden, table, None, targets, torch.tensor([[1], [1]]), 0.5)
    beta = 1 - 0.5 * (1 - 1 / 2)
    assert loss.item() == pytest.approx((beta * 1000 + 1000) / 4)
    for grad in gradients(loss, hidden, table):
        assert grad.isfinite().all()


def test_gradients_are_dense_however_few_items_are_scored() -> None:
    inputs = leaves(2, 4001, 3)
    loss = gbce(*inputs, numbers(4001, 2), numbers(4001, 2, 3), 0.75)
    loss.backward()
    assert [leaf.grad.layout for leaf in inputs if leaf is not None and leaf.grad is not None] == [
        torch.strided
    ] * 3


def test_gbces_rows_of_all_positions_never_exist_at_once() -> None:
    positions, items, size, negatives = 900, 3000, 16, 300
    inputs = leaves(positions, items, size, dtype=torch.float32)
    targets, drawn = numbers(items, positions), numbers(items, positions, negatives)
    scored = 1 + negatives
    chunk = rows_at_once(scored * size, CPU) * scored * size * FLOAT32_BYTES
    rows = positions * scored * size * FLOAT32_BYTES
    largest = largest_allocation(lambda: gbce(*inputs, targets, drawn, 0.75).backward())
    assert largest <= chunk < rows / 2


def test_the_published_defaults() -> None:
    assert (GBCE_NEGATIVES, GBCE_CALIBRATION) == (256, 0.75)
