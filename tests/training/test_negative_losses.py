"""What both losses over negatives have in common."""

import pytest
import torch
import torch.nn.functional as F

from peercollab.training.gbce import gbce
from peercollab.training.sampled_softmax import sampled_softmax
from tests.training.losses import (
    LossOfLeaves,
    gradients,
    leaves,
    log_q_of,
    numbers,
)


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
