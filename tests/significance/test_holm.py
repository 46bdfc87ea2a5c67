"""Holm's correction by hand, and as the closed test that it is a short cut for."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peercollab.significance.holm import holm


def by_closed_testing(p_values: list[float]) -> list[float]:
    """Each arm's largest Bonferroni p over all sets of arms that it is in."""
    arms = range(len(p_values))
    sets = [
        chosen
        for size in range(1, len(p_values) + 1)
        for chosen in itertools.combinations(arms, size)
    ]
    return [
        max(
            min(1.0, len(chosen) * min(p_values[other] for other in chosen))
            for chosen in sets
            if arm in chosen
        )
        for arm in arms
    ]


def test_by_hand() -> None:
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not be below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_it_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(by_closed_testing(p_values))


def test_one_arm_and_none_need_no_correction() -> None:
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
