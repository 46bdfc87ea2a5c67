"""Leave-one-out and windows against a user-by-user loop."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peercollab.data.sequences import Histories
from peercollab.data.split import (
    HOLD_OUTS,
    Spans,
    queries,
    training_counts,
    training_spans,
    windows,
)
from tests.reference.lists import lists_of

ITEMS = 9
USERS = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=12), max_size=8)


def histories_of(users: list[list[int]], n_items: int = ITEMS) -> Histories:
    return Histories(
        items=np.array([item for user in users for item in user], dtype=np.int32),
        offsets=np.cumsum([0, *(len(user) for user in users)]).astype(np.int64),
        n_items=n_items,
    )


def naive_windows(history: list[int], length: int) -> list[list[int]]:
    """Pieces of at most `length` inputs and one more, cut from the end, each sharing one item."""
    pieces = []
    stop = len(history)
    while stop >= 2:
        start = max(0, stop - length - 1)
        pieces.append(history[start:stop])
        stop = start + 1
    return pieces


@given(USERS)
def test_the_last_item_is_for_test_and_the_one_before_for_validation(
    users: list[list[int]],
) -> None:
    histories = histories_of(users)
    numbers = [number for number, user in enumerate(users) if len(user) >= 3]
    for hold_out, back in (("validation", 2), ("test", 1)):
        got = queries(histories, "validation" if hold_out == "validation" else "test")
        assert got.users.tolist() == numbers
        assert got.targets.tolist() == [users[u][-back] for u in numbers]
        assert lists_of(histories.items, got.spans) == [users[u][:-back] for u in numbers]
        assert len(got) == len(numbers)


@given(USERS)
def test_training_leaves_the_held_out_items_out(users: list[list[int]]) -> None:
    histories = histories_of(users)
    expected = [user[:-2] if len(user) >= 3 else user for user in users]
    assert lists_of(histories.items, training_spans(histories)) == expected


def test_users_with_fewer_than_three_items_train_only() -> None:
    histories = histories_of([[], [1], [2, 3], [4, 5, 6]])
    assert lists_of(histories.items, training_spans(histories)) == [[], [1], [2, 3], [4]]
    for hold_out in HOLD_OUTS:
        assert queries(histories, hold_out).users.tolist() == [3]


@given(USERS)
def test_training_counts_are_those_of_the_training_spans(users: list[list[int]]) -> None:
    counts = training_counts(histories_of(users))
    expected = Counter(item for user in users for item in (user[:-2] if len(user) >= 3 else user))
    assert counts.tolist() == [expected[item] for item in range(ITEMS)]
    assert counts.dtype == np.int64


def test_training_counts_have_a_place_for_items_that_nobody_has() -> None:
    assert training_counts(histories_of([[1, 1, 1, 2, 3]], n_items=6)).tolist() == [
        0,
        3,
        0,
        0,
        0,
        0,
    ]


@given(USERS, st.integers(1, 13))
def test_windows_equal_those_cut_user_by_user(users: list[list[int]], length: int) -> None:
    histories = histories_of(users)
    spans = Spans(histories.offsets[:-1], histories.offsets[1:])
    expected = [window for user in users for window in naive_windows(user, length)]
    assert lists_of(histories.items, windows(spans, length)) == expected


@given(USERS, st.integers(1, 13))
def test_every_item_but_a_users_first_is_a_target_exactly_once(
    users: list[list[int]], length: int
) -> None:
    histories = histories_of(users)
    cut = windows(Spans(histories.offsets[:-1], histories.offsets[1:]), length)
    targets = Counter(
        at
        for start, stop in zip(cut.starts, cut.stops, strict=True)
        for at in range(start + 1, stop)
    )
    firsts = {int(offset) for offset in histories.offsets[:-1]}
    assert targets == Counter(at for at in range(len(histories.items)) if at not in firsts)
    assert all(2 <= n <= length + 1 for n in cut.lengths)


def test_only_the_first_window_of_a_user_is_short_and_neighbours_share_one_item() -> None:
    histories = histories_of([[0, 1, 2, 3, 4, 5, 6, 7]])
    cut = windows(Spans(histories.offsets[:-1], histories.offsets[1:]), 3)
    assert lists_of(histories.items, cut) == [[4, 5, 6, 7], [1, 2, 3, 4], [0, 1]]


@pytest.mark.parametrize("n", [0, 1])
def test_a_span_without_a_target_gives_no_window(n: int) -> None:
    starts = np.array([5], dtype=np.int64)
    assert len(windows(Spans(starts, starts + n), 10)) == 0


@given(USERS, st.integers(1, 13))
def test_last_keeps_the_latest_items(users: list[list[int]], length: int) -> None:
    histories = histories_of(users)
    spans = Spans(histories.offsets[:-1], histories.offsets[1:]).last(length)
    assert lists_of(histories.items, spans) == [user[-length:] for user in users]
    assert spans.lengths.tolist() == [min(len(user), length) for user in users]
