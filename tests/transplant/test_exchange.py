"""When peers exchange."""

import pytest

from peercollab.errors import PeercollabError
from peercollab.transplant.exchange import Timetable


@pytest.mark.parametrize(
    ("every", "at_end", "due"),
    [
        ("epoch", False, [42]),
        ("epoch", True, [42]),
        (10, False, [10, 20, 30, 40]),
        (10, True, [10, 20, 30, 40, 42]),
        (14, True, [14, 28, 42]),
        (1, False, list(range(1, 43))),
        (42, False, [42]),
        (43, False, [42]),
        (500, True, [42]),
    ],
)
def test_steps_are_counted_from_the_start_of_an_epoch_and_capped_at_it(
    every: int, at_end: bool, due: list[int]
) -> None:
    timetable = Timetable(steps=42, epochs=3, every=every, at_end=at_end)
    assert [timetable.due(round) for round in (1, 2, 3)] == [due] * 3


@pytest.mark.parametrize("steps", [1, 7, 42, 750])
def test_a_window_includes_both_its_ends_in_whole_epochs(steps: int) -> None:
    for first, last in ((0.0, 1.0), (0.1, 0.3), (0.7, 0.7), (0.57, 0.58)):
        timetable = Timetable(steps, epochs=100, first=first, last=last)
        rounds = [round for round in range(1, 101) if timetable.due(round)]
        assert rounds == list(range(max(1, round(100 * first)), round(100 * last) + 1))


def test_a_window_can_open_and_close_inside_an_epoch() -> None:
    timetable = Timetable(steps=10, epochs=2, every=2, first=0.25, last=0.7)
    assert timetable.due(1) == [6, 8, 10]
    assert timetable.due(2) == [2, 4]


def test_a_window_without_an_exchange_is_refused() -> None:
    Timetable(10, 2, first=0.5).require_exchange(before_the_end=True)
    with pytest.raises(PeercollabError, match=r"--exchange-from 0.6 and --exchange-until 0.9"):
        Timetable(10, 2, first=0.6, last=0.9).require_exchange(before_the_end=False)


def test_a_window_that_opens_after_the_last_ranking_is_refused_where_that_is_too_late() -> None:
    timetable = Timetable(10, 2, first=0.6)
    timetable.require_exchange(before_the_end=False)
    with pytest.raises(PeercollabError, match="before the last ranking: widen them"):
        timetable.require_exchange(before_the_end=True)
    # A single epoch has no other exchange than that at its end.
    Timetable(10, 1).require_exchange(before_the_end=True)
