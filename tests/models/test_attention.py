"""Attention against loops over positions."""

import math

import pytest
import torch
from torch import Tensor

from peercollab.models.attention import attend, attend_once
from peercollab.models.dropout import Dropout


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Position by position, in float64."""
    query, key, value = query.double(), key.double(), value.double()
    rows, heads, length, size = query.shape
    out = torch.zeros_like(value)
    for row in range(rows):
        for head in range(heads):
            for position in range(length):
                seen = slice(0, position + 1)
                scores = key[row, head, seen] @ query[row, head, position] / math.sqrt(size)
                out[row, head, position] = scores.softmax(0) @ value[row, head, seen]
    return out


def tensors(rows: int, heads: int, length: int, size: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(rows * 100 + heads * 10 + length)
    # As a model has them: heads beside each other in memory.
    return [
        torch.randn(rows, length, heads, size, generator=generator).transpose(1, 2)
        for _ in range(3)
    ]


class Keeping(Dropout):
    """Dropout that is on, and happens to drop nothing."""

    def forward(self, x_T: Tensor) -> Tensor:
        return x_T


@pytest.mark.parametrize(("rows", "heads", "length"), [(1, 1, 1), (2, 1, 5), (3, 2, 7)])
@pytest.mark.parametrize("dropout", [Dropout(0.3).eval(), Dropout(0.0), Keeping(0.3)])
def test_attention_equals_the_loop(rows: int, heads: int, length: int, dropout: Dropout) -> None:
    query, key, value = tensors(rows, heads, length)
    attended = attend(query, key, value, dropout)
    torch.testing.assert_close(attended.double(), plain(query, key, value), rtol=0, atol=1e-5)


def test_gradients_equal_those_of_torchs_own_attention() -> None:
    gradients = []
    for dropout in (Keeping(0.3), Dropout(0.0)):
        query, key, value = (x.clone().requires_grad_() for x in tensors(2, 2, 6))
        (attend(query, key, value, dropout) ** 2).sum().backward()
        gradients.append([leaf.grad for leaf in (query, key, value)])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_dropped_weights_keep_their_mean_and_stay_causal() -> None:
    query, key, _ = tensors(1, 1, 6)
    value = torch.eye(6)[None, None]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        draws = [attend(query, key, value, Dropout(0.5)) for _ in range(4000)]
    mean = torch.stack(draws).mean(dim=0)
    torch.testing.assert_close(mean, attend(query, key, value, Dropout(0.0)), rtol=0, atol=0.05)
    assert all((draw.triu(1) == 0).all() for draw in draws)
    assert not torch.equal(draws[0], draws[1])


@pytest.mark.parametrize(("rows", "heads", "length"), [(1, 1, 1), (2, 1, 5), (4, 2, 7)])
def test_one_position_is_attended_as_among_all(rows: int, heads: int, length: int) -> None:
    query, key, value = tensors(rows, heads, length)
    position = torch.arange(rows) * 3 % length
    once = attend_once(query[torch.arange(rows), :, position], key, value, position)
    expected = plain(query, key, value)[torch.arange(rows), :, position]
    torch.testing.assert_close(once.double(), expected, rtol=0, atol=1e-5)
