"""Ranks by popularity against a loop over sorted lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from peercollab.data.split import Queries, Spans
from peercollab.training.metrics import MISS
from peercollab.training.popularity import Popularity

ITEMS = 7

COUNTS = st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS)
HISTORIES = st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=9), max_size=6)


@given(COUNTS, HISTORIES, st.data(), st.booleans())
def test_ranks_equal_those_of_a_sorted_list(
    counts: list[int], histories: list[list[int]], data: st.DataObject, keep_seen: bool
) -> None:
    targets = [data.draw(st.integers(0, ITEMS - 1)) for _ in histories]
    stops = np.cumsum([len(history) for history in histories], dtype=np.int64)
    starts = stops - np.array([len(history) for history in histories], dtype=np.int64)
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    asked = Queries(
        np.arange(len(histories)), Spans(starts, stops), np.array(targets, dtype=np.int32)
    )
    ranks = Popularity(np.array(counts)).ranks(items, asked, keep_seen=keep_seen)
    assert ranks.dtype == np.int32
    by_count = sorted(range(ITEMS), key=lambda item: (-counts[item], item))
    for history, target, rank in zip(histories, targets, ranks, strict=True):
        order = [item for item in by_count if keep_seen or item not in history]
        assert rank == (order.index(target) + 1 if target in order else MISS)


def test_large_counts_are_told_apart() -> None:
    counts = np.array([2**53, 2**53 + 1, 2**53], dtype=np.int64)
    assert Popularity(counts).order_V.tolist() == [1, 0, 2]
