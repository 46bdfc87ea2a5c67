"""Dropping the rare, ordering by time, numbering by id."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peercollab.data.layout import Layout, ReadOptions
from peercollab.data.prepare import PrepareOptions, own_histories, prepare
from peercollab.data.read import Interactions, read_interactions
from peercollab.data.sequences import SequenceData
from peercollab.errors import PeercollabError

Log = list[tuple[str, str, int]]


def interactions_of(log: Log, *, timed: bool = True) -> Interactions:
    """A log as it comes from a file: plain code, apart from the reader."""
    user_ids = sorted({user for user, _, _ in log})
    item_ids = sorted({item for _, item, _ in log})
    return Interactions(
        users=np.array([user_ids.index(user) for user, _, _ in log], dtype=np.int64),
        items=np.array([item_ids.index(item) for _, item, _ in log], dtype=np.int64),
        times=np.array([time for _, _, time in log], dtype=np.int64) if timed else None,
        user_ids=np.array(user_ids, dtype=object),
        item_ids=np.array(item_ids, dtype=object),
        layout=Layout.csv("user", "item", "time"),
    )


def histories_of(data: SequenceData) -> dict[str, list[str]]:
    histories = data.histories
    return {
        user: data.item_ids[histories.of(number)].tolist()
        for number, user in enumerate(data.user_ids)
    }


def naive_core(log: Log, least: int) -> Log:
    """The k-core, one row at a time: any row of a rare user or item goes, until none is left."""
    rows = list(log)
    while True:
        for row in rows:
            by_user = sum(other[0] == row[0] for other in rows)
            by_item = sum(other[1] == row[1] for other in rows)
            if min(by_user, by_item) < least:
                rows.remove(row)
                break
        else:
            return rows


def naive_histories(log: Log) -> dict[str, list[str]]:
    histories: dict[str, list[str]] = {}
    for user, item, _ in sorted(log, key=lambda row: (row[0], row[2])):
        histories.setdefault(user, []).append(item)
    return histories


LOGS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz"), st.integers(0, 10)),
    min_size=1,
    max_size=40,
)


@given(LOGS, st.integers(1, 5))
def test_filter_is_the_core_and_order_is_by_time_then_file(log: Log, least: int) -> None:
    # Rows of one user, item and time are alike, so it does not matter which of them goes.
    core = naive_core(log, least)
    expected = naive_histories(core)
    items = sorted({item for _, item, _ in core})
    if len(expected) < 2 or len(items) < 2:
        with pytest.raises(PeercollabError):
            prepare(interactions_of(log), PrepareOptions(least))
        return
    data, counts = prepare(interactions_of(log), PrepareOptions(least))
    assert histories_of(data) == expected
    assert list(data.user_ids) == sorted(expected)
    assert list(data.item_ids) == items
    assert data.histories.n_items == len(items)
    assert data.histories.items.dtype == np.int32
    assert data.histories.offsets.dtype == np.int64
    assert counts.before.interactions == len(log)
    after = counts.after
    assert (after.users, after.items, after.interactions) == (len(expected), len(items), len(core))


@given(LOGS, st.integers(1, 4))
def test_filtering_once_counts_both_on_the_raw_data(log: Log, least: int) -> None:
    users = [user for user, _, _ in log]
    items = [item for _, item, _ in log]
    kept = [r for r in log if users.count(r[0]) >= least and items.count(r[1]) >= least]
    try:
        data, counts = prepare(interactions_of(log), PrepareOptions(least, filter_once=True))
    except PeercollabError:
        assert len({user for user, _, _ in kept}) < 2 or len({item for _, item, _ in kept}) < 2
        return
    assert histories_of(data) == naive_histories(kept)
    assert counts.after.interactions == len(kept)


def test_filtering_once_keeps_what_repeating_drops() -> None:
    # b leaves with z; then x has a single user, and a has y alone.
    log = [("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("b", "z", 4), ("c", "y", 5), ("c", "y", 6)]
    log += [("d", "y", 7), ("d", "w", 8), ("d", "w", 9)]
    once, _ = prepare(interactions_of(log), PrepareOptions(2, filter_once=True))
    assert histories_of(once) == {
        "a": ["x", "y"], "b": ["x"], "c": ["y", "y"], "d": ["y", "w", "w"]
    }  # fmt: skip
    core, _ = prepare(interactions_of(log), PrepareOptions(2))
    assert histories_of(core) == {"c": ["y", "y"], "d": ["y", "w", "w"]}


@given(st.randoms(use_true_random=False), LOGS, st.integers(1, 3))
def test_order_of_rows_changes_nothing_if_times_differ(
    random: Random, log: Log, least: int
) -> None:
    log = [(user, item, time) for time, (user, item, _) in enumerate(log)]
    shuffled = list(log)
    random.shuffle(shuffled)
    core = naive_core(log, least)
    assume(len({user for user, _, _ in core}) > 1 and len({item for _, item, _ in core}) > 1)
    data, counts = prepare(interactions_of(log), PrepareOptions(least))
    again, counts_again = prepare(interactions_of(shuffled), PrepareOptions(least))
    assert np.array_equal(data.histories.items, again.histories.items)
    assert np.array_equal(data.histories.offsets, again.histories.offsets)
    assert np.array_equal(data.user_ids, again.user_ids)
    assert np.array_equal(data.item_ids, again.item_ids)
    assert counts == counts_again


def test_shuffled_file_gives_the_same_data(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    rows = [f"u{generator.integers(20)},i{generator.integers(15)},{time}" for time in range(500)]
    prepared = []
    for order in (np.arange(500), generator.permutation(500)):
        path = tmp_path / "log.csv"
        path.write_text("\n".join(["user,item,time", *(rows[row] for row in order)]))
        prepared.append(prepare(read_interactions(path, ReadOptions()), PrepareOptions())[0])
    first, second = prepared
    assert np.array_equal(first.histories.items, second.histories.items)
    assert histories_of(first) == histories_of(second)


def test_without_times_the_file_is_in_time_order() -> None:
    log = [("b", "x", 3), ("a", "y", 2), ("b", "y", 1), ("a", "x", 0)]
    data, _ = prepare(interactions_of(log, timed=False), PrepareOptions(1))
    assert histories_of(data) == {"a": ["y", "x"], "b": ["x", "y"]}


def test_counts_are_told_before_and_after() -> None:
    log = [(user, item, 0) for user in "ab" for item in "xy"]
    _, all_kept = prepare(interactions_of(log), PrepareOptions(2))
    assert all_kept.describe() == "2 users, 2 items, 4 interactions; nothing dropped"
    _, dropped = prepare(interactions_of([*log, ("c", "x", 1)]), PrepareOptions(2))
    assert dropped.describe() == (
        "3 users, 2 items, 5 interactions\n2 users, 2 items, 4 interactions after users and items "
        "with fewer than 2 interactions were dropped until none is left"
    )
    _, once = prepare(interactions_of([*log, ("c", "x", 1)]), PrepareOptions(2, filter_once=True))
    assert once.describe().endswith("were dropped once")


def refusal(log: Log, options: PrepareOptions | None = None) -> str:
    with pytest.raises(PeercollabError) as caught:
        prepare(interactions_of(log), options or PrepareOptions())
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    return message


def test_short_histories_are_told_with_their_longest() -> None:
    message = refusal([(user, item, 0) for user in "abc" for item in "wxyz"])
    assert "all 3 users have fewer than 5 interactions (the longest history has 4)" in message
    assert "--min-interactions" in message
    assert "read as: table separated by commas" in message


def test_rare_items_are_told_where_users_have_enough() -> None:
    log = [(user, f"{user}{number}", 0) for user in "abc" for number in range(6)]
    message = refusal(log)
    assert "0 users, 0 items, 0 interactions" in message
    assert "lower --min-interactions" in message


def test_one_user_or_one_item_is_too_few() -> None:
    one_user = refusal([("a", item, 0) for item in "stuvwxyz"])
    assert "there is one user, and at least 2 are needed" in one_user
    one_item = refusal([(user, "x", 0) for user in "abc" for _ in range(5)])
    assert "there is one item, and at least 2 are needed" in one_item
    one_left = refusal([("a", item, 0) for item in "xy"] * 5 + [("b", "x", 0)])
    assert "1 users, 2 items, 10 interactions" in one_left
    assert "at least 2 users and 2 items are needed" in one_left


def test_least_count_below_one_is_refused() -> None:
    with pytest.raises(PeercollabError, match="--min-interactions is 0"):
        PrepareOptions(min_interactions=0)


def test_own_histories_keep_users_in_file_order_and_items_in_time_order(tmp_path: Path) -> None:
    path = tmp_path / "histories.csv"
    path.write_text("user,item,time\nz,9,5\nm,,\nz,8,1\na,9,3\nz,8,5\n")
    interactions = read_interactions(path, ReadOptions(), allow_empty=True)
    assert own_histories(interactions) == [("z", ["8", "9", "8"]), ("m", []), ("a", ["9"])]
    path.write_text("\n9 8\n\n")
    lines = read_interactions(path, ReadOptions(), layout=Layout("sequences"), allow_empty=True)
    assert own_histories(lines) == [("1", []), ("2", ["9", "8"]), ("3", [])]
    path.write_text("\n")
    empty = read_interactions(path, ReadOptions(), layout=Layout("sequences"), allow_empty=True)
    assert own_histories(empty) == [("1", [])]


@given(LOGS)
def test_own_histories_agree_with_a_plain_loop(log: Log) -> None:
    expected = naive_histories(log)
    in_file_order = list(dict.fromkeys(user for user, _, _ in log))
    assert own_histories(interactions_of(log)) == [(u, expected[u]) for u in in_file_order]
