"""Batches against a row-by-row loop, and orders of an epoch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peercollab.data import batches
from peercollab.data.batches import bucketed_order, in_order, lay_out, training_batch
from peercollab.data.sequences import Int32Array, Int64Array
from peercollab.data.split import Spans

LENGTHS = st.lists(st.integers(1, 9), max_size=70)


@st.composite
def items_and_spans(draw: st.DrawFn, shortest: int) -> tuple[Int32Array, Spans]:
    """Spans anywhere in a flat array, overlapping or not, in any order."""
    items = np.array(draw(st.lists(st.integers(0, 50), min_size=12, max_size=30)), dtype=np.int32)
    starts = draw(st.lists(st.integers(0, len(items) - shortest), min_size=1, max_size=6))
    stops = [draw(st.integers(start + shortest, min(len(items), start + 8))) for start in starts]
    return items, Spans(np.array(starts, dtype=np.int64), np.array(stops, dtype=np.int64))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def padded_places(lengths: Int64Array, order: list[Int64Array]) -> int:
    return sum(int(lengths[rows].max()) * len(rows) for rows in order) - int(lengths.sum())


@given(items_and_spans(shortest=1))
def test_rows_begin_at_the_left_and_are_padded_with_zero(data: tuple[Int32Array, Spans]) -> None:
    items, spans = data
    rows = lay_out(items, spans)
    pieces = [items[a:b].tolist() for a, b in zip(spans.starts, spans.stops, strict=True)]
    longest = max(len(piece) for piece in pieces)
    assert rows.items_BL.tolist() == [piece + [0] * (longest - len(piece)) for piece in pieces]
    assert rows.lengths_B.tolist() == [len(piece) for piece in pieces]
    assert rows.items_BL.dtype == rows.lengths_B.dtype == torch.int64


@given(items_and_spans(shortest=2))
def test_the_target_of_each_real_position_is_the_item_that_follows(
    data: tuple[Int32Array, Spans],
) -> None:
    items, windows = data
    batch = training_batch(items, windows)
    pieces = [items[a:b].tolist() for a, b in zip(windows.starts, windows.stops, strict=True)]
    longest = max(len(piece) for piece in pieces) - 1
    inputs = [piece[:-1] + [0] * (longest - len(piece) + 1) for piece in pieces]
    assert batch.rows.items_BL.tolist() == inputs
    assert batch.rows.lengths_B.tolist() == [len(piece) - 1 for piece in pieces]
    assert batch.targets_N.tolist() == [item for piece in pieces for item in piece[1:]]
    real = [row * longest + at for row, piece in enumerate(pieces) for at in range(len(piece) - 1)]
    assert batch.real_N.tolist() == real
    seen = batch.rows.items_BL.flatten()[batch.real_N].tolist()
    assert seen == [item for piece in pieces for item in piece[:-1]]


def test_a_batch_moves_to_a_device_whole() -> None:
    items = np.arange(6, dtype=np.int32)
    batch = training_batch(items, Spans(np.array([0, 2]), np.array([3, 6])))
    moved = batch.to(torch.device("meta"))
    tensors = (moved.rows.items_BL, moved.rows.lengths_B, moved.real_N, moved.targets_N)
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@given(LENGTHS, st.integers(1, 10), st.integers(0, 2**32))
def test_every_row_is_in_exactly_one_batch_of_an_epoch(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    order = bucketed_order(np.array(lengths, dtype=np.int64), batch_size, generator(seed))
    rows = [int(row) for batch in order for row in batch]
    assert sorted(rows) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 10), st.integers(0, 2**32))
def test_all_batches_but_one_have_the_batch_size(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    order = bucketed_order(np.array(lengths, dtype=np.int64), batch_size, generator(seed))
    full, rest = divmod(len(lengths), batch_size)
    assert sorted(map(len, order)) == ([rest] if rest else []) + [batch_size] * full


def test_an_order_is_fixed_by_its_generator_and_differs_between_generators() -> None:
    lengths = generator(5).integers(1, 50, 400)
    first, again, other = (
        [batch.tolist() for batch in bucketed_order(lengths, 7, generator(seed))]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert sorted(map(tuple, first)) != sorted(map(tuple, other))


def test_an_order_does_not_run_from_short_to_long() -> None:
    lengths = np.repeat(np.arange(1, 101), 10)
    longest = [int(lengths[batch].max()) for batch in bucketed_order(lengths, 10, generator())]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_rows_of_like_length_together_need_less_padding_than_at_random() -> None:
    lengths = generator(3).integers(1, 101, 1000)
    shuffled = np.array_split(generator(4).permutation(len(lengths)), 1000 // 10)
    bucketed = bucketed_order(lengths, 10, generator(4))
    assert padded_places(lengths, bucketed) < padded_places(lengths, shuffled) / 3


def test_rows_are_sorted_within_pools_and_not_over_the_whole_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = np.arange(1, 101)
    fully_sorted = padded_places(lengths, np.array_split(np.arange(100), 25))
    monkeypatch.setattr(batches, "BATCHES_A_POOL", 5)
    pooled = padded_places(lengths, bucketed_order(lengths, 4, generator()))
    monkeypatch.setattr(batches, "BATCHES_A_POOL", 25)
    assert padded_places(lengths, bucketed_order(lengths, 4, generator())) == fully_sorted
    assert pooled > fully_sorted


@given(LENGTHS, st.integers(1, 10))
def test_in_order_goes_through_all_rows_from_short_to_long(
    lengths: list[int], batch_size: int
) -> None:
    starts = np.zeros(len(lengths), dtype=np.int64)
    order = list(in_order(Spans(starts, starts + np.array(lengths, dtype=np.int64)), batch_size))
    rows = [int(row) for batch in order for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths)
    assert all(len(batch) <= batch_size for batch in order)
    assert len(order) == -(-len(lengths) // batch_size)
