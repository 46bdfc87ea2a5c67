"""Learning rates against their formulas."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peercollab.training.schedule import scheduled_learning_rate, spread_learning_rate


def test_two_peers_get_half_the_rate_and_the_whole() -> None:
    assert spread_learning_rate(1e-3, 1, 2) == pytest.approx(0.5e-3, rel=1e-15)
    assert spread_learning_rate(1e-3, 2, 2) == 1e-3


def test_a_single_peer_gets_the_whole_rate() -> None:
    assert spread_learning_rate(0.02, 1, 1) == 0.02


def test_four_peers_get_the_rates_of_the_published_code() -> None:
    half = math.sqrt(0.5)
    expected = [(1 - half) / 2, 0.5, (1 + half) / 2, 1.0]
    assert [spread_learning_rate(1.0, i, 4) for i in range(1, 5)] == pytest.approx(expected)


@given(st.integers(1, 20), st.floats(1e-6, 10))
def test_rates_grow_with_the_peers_number_up_to_the_whole(peers: int, base: float) -> None:
    rates = [spread_learning_rate(base, i, peers) for i in range(1, peers + 1)]
    assert rates == sorted(set(rates))
    assert rates[0] > 0
    assert rates[-1] == base
    assert rates == pytest.approx(
        [base * (1 + math.cos(math.pi * (peers - i) / peers)) / 2 for i in range(1, peers + 1)]
    )


@given(st.floats(1e-6, 10), st.integers(1, 300))
def test_cosine_falls_from_the_whole_rate_to_nearly_nothing(base: float, steps: int) -> None:
    rates = [scheduled_learning_rate(base, "cosine", step, steps) for step in range(steps)]
    assert rates[0] == base
    assert rates == sorted(rates, reverse=True)
    assert all(rate > 0 for rate in rates)
    # (1 + cos(pi - x)) / 2 is below x^2 / 4.
    assert rates[-1] <= base * max(0, (math.pi / steps) ** 2 / 4) * (1 + 1e-9)


def test_cosine_is_at_half_in_the_middle_and_at_nothing_behind_the_end() -> None:
    assert scheduled_learning_rate(2.0, "cosine", 50, 100) == pytest.approx(1.0)
    assert scheduled_learning_rate(2.0, "cosine", 25, 100) == pytest.approx(1 + math.sqrt(0.5))
    assert scheduled_learning_rate(2.0, "cosine", 100, 100) == 0.0


def test_constant_stays() -> None:
    assert {scheduled_learning_rate(0.3, "constant", step, 100) for step in range(100)} == {0.3}
