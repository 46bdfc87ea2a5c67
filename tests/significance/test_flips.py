"""Flipping signs, against all patterns, scipy's permutation test and the binomial sign test."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from peercollab.significance.flips import FLIPS, flip_p_value, least_p_value
from peercollab.training.metrics import Float64Array

# Whole numbers: sums are exact, and ties are real.
WHOLE = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=9)


def by_all_patterns(differences_N: Float64Array) -> float:
    patterns = itertools.product((-1.0, 1.0), repeat=len(differences_N))
    sums = np.array([np.dot(pattern, differences_N) for pattern in patterns])
    return float(np.mean(np.abs(sums) >= abs(differences_N.sum())))


def monte_carlo_tolerance(p_value: float) -> float:
    return 4 * math.sqrt(p_value * (1 - p_value) / FLIPS) + 2 / FLIPS


@given(WHOLE)
def test_few_units_are_flipped_in_all_patterns(differences: list[float]) -> None:
    difference_N = np.array(differences)
    assert flip_p_value(difference_N, seed=1) == pytest.approx(by_all_patterns(difference_N))


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.4])
def test_many_units_are_flipped_at_random_as_scipy_does(shift: float) -> None:
    difference_N = np.random.default_rng(6).normal(shift, size=60)
    expected = stats.permutation_test(
        (difference_N,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        random_state=np.random.default_rng(7),
    ).pvalue
    tolerance = 2 * monte_carlo_tolerance(expected)
    assert flip_p_value(difference_N, seed=1) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("positive", [20, 25, 28, 40])
def test_differences_of_one_size_are_a_sign_test(positive: int) -> None:
    difference_N = np.repeat([1 / 3, -1 / 3, 0.0], [positive, 40 - positive, 100])
    expected = stats.binomtest(positive, 40).pvalue
    tolerance = monte_carlo_tolerance(expected)
    assert flip_p_value(difference_N, seed=1) == pytest.approx(expected, abs=tolerance)


def test_many_units_are_drawn_in_parts_that_change_nothing_in_law(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    difference_N = np.random.default_rng(8).normal(0.3, size=50)
    whole = flip_p_value(difference_N, seed=1)
    monkeypatch.setattr("peercollab.significance.flips.CHUNK", 333)
    assert flip_p_value(difference_N, seed=1) == pytest.approx(
        whole, abs=2 * monte_carlo_tolerance(whole)
    )


def test_the_least_p_is_reached_by_differences_of_one_sign() -> None:
    for seeds, least in {1: 1.0, 3: 0.25, 5: 0.0625, 6: 0.03125}.items():
        assert least_p_value(seeds) == least
        assert flip_p_value(np.arange(1.0, seeds + 1), seed=1) == least
    assert flip_p_value(np.ones(1000), seed=1) == 1 / (FLIPS + 1)


def test_nothing_but_zeros_is_no_evidence() -> None:
    assert flip_p_value(np.zeros(1000), seed=1) == 1.0


def test_the_same_seed_gives_the_same_p_and_another_another() -> None:
    difference_N = np.random.default_rng(9).normal(0.1, size=100)
    p_values = [flip_p_value(difference_N, seed) for seed in (1, 1, 2)]
    assert p_values[0] == p_values[1] != p_values[2]


def test_of_no_difference_it_is_as_often_below_a_level_as_the_level_says() -> None:
    rng = np.random.default_rng(10)
    experiments, level = 500, 0.05
    below = [
        flip_p_value(rng.normal(size=100), seed, flips=399) <= level for seed in range(experiments)
    ]
    tolerance = 4 * math.sqrt(level * (1 - level) / experiments)
    assert np.mean(below) == pytest.approx(level, abs=tolerance)
