"""Batches against a row-by-row loop, and orders of an epoch."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from peercollab.data import batches
from peercollab.data.batches import in_order, lay_out, of_like_length, shuffled, training_batch
from peercollab.data.sequences import Int32Array, Int64Array
from peercollab.data.split import Spans
from tests.reference.lists import lists_of

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


def places(lengths: Int64Array, groups: list[Int64Array]) -> int:
    """Places of all rows, padded ones too."""
    return sum(int(lengths[rows].max()) * len(rows) for rows in groups)


@given(items_and_spans(shortest=1))
def test_rows_begin_at_the_left_and_are_padded_with_zero(data: tuple[Int32Array, Spans]) -> None:
    items, spans = data
    rows = lay_out(items, spans)
    pieces = lists_of(items, spans)
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
    pieces = lists_of(items, windows)
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


@given(st.integers(0, 70), st.integers(1, 10), st.integers(0, 2**32))
def test_every_row_is_in_exactly_one_batch_of_an_epoch(
    n_rows: int, batch_size: int, seed: int
) -> None:
    order = shuffled(n_rows, batch_size, generator(seed))
    assert sorted(int(row) for batch in order for row in batch) == list(range(n_rows))
    full, rest = divmod(n_rows, batch_size)
    assert list(map(len, order)) == [batch_size] * full + ([rest] if rest else [])


def test_an_order_is_fixed_by_its_generator_and_differs_between_generators() -> None:
    first, again, other = (
        [batch.tolist() for batch in shuffled(400, 7, generator(seed))] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@given(st.lists(st.integers(1, 60), max_size=70))
def test_groups_of_like_length_hold_every_row_once_and_are_well_filled(lengths: list[int]) -> None:
    lengths_B = np.array(lengths, dtype=np.int64)
    groups = of_like_length(lengths_B)
    assert sorted(int(row) for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        least, longest = lengths_B[group].min(), lengths_B[group].max()
        assert least >= batches.LEAST_FILLED * longest or longest <= batches.SHORTEST_GROUP
    for one, next_one in pairwise(groups):
        assert lengths_B[next_one].max() < batches.LEAST_FILLED * lengths_B[one].max()


def test_rows_of_any_length_need_little_padding() -> None:
    lengths = generator(3).integers(1, 101, 128)
    assert places(lengths, [np.arange(128)]) > 1.8 * lengths.sum()
    assert places(lengths, of_like_length(lengths)) < 1.3 * lengths.sum()


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
