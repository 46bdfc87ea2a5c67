"""Intervals and p-values against scipy's t test, closed forms, and how often they hold."""

import math

import numpy as np
import pytest
from scipy import stats

from peercollab.significance.student import (
    CONFIDENCE,
    Estimate,
    Interval,
    for_both,
    for_new_trainings,
    for_new_users,
)
from peercollab.training.metrics import Float64Array
from tests.significance.made_up import Spread, differences

EXPERIMENTS = 600
TRUE = 0.7
# Four standard deviations of the share of experiments whose interval holds the truth.
TOLERANCE = 4 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / EXPERIMENTS)


def coverage(intervals: list[Interval], true: float = TRUE) -> float:
    return float(np.mean([interval.low <= true <= interval.high for interval in intervals]))


def assert_like_scipy(estimate: Estimate, sample_N: Float64Array) -> None:
    expected = stats.ttest_1samp(sample_N, 0.0)
    low, high = expected.confidence_interval(CONFIDENCE)
    interval = estimate.interval()
    assert estimate.p_value() == pytest.approx(expected.pvalue)
    assert (interval.low, interval.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("seeds", "users"), [(2, 2), (3, 50), (8, 7)])
def test_each_part_is_a_t_test_of_means(seeds: int, users: int) -> None:
    difference_SU = differences(np.random.default_rng(1), seeds, users, Spread(1, 1, 1), true=0.4)
    assert_like_scipy(for_new_users(difference_SU), difference_SU.mean(axis=0))
    assert_like_scipy(for_new_trainings(difference_SU), difference_SU.mean(axis=1))


def test_both_is_the_t_test_of_the_part_that_varies_where_one_does() -> None:
    rng = np.random.default_rng(2)
    by_seed = differences(rng, 4, 30, Spread(training=1))
    by_user = differences(rng, 4, 30, Spread(taste=1))
    assert_like_scipy(for_both(by_seed), by_seed.mean(axis=1))
    assert_like_scipy(for_both(by_user), by_user.mean(axis=0))


def test_the_variance_of_both_is_the_true_one_and_the_rest_once_more() -> None:
    rng = np.random.default_rng(3)
    spread = Spread(training=0.5, taste=0.4, rest=0.3)
    samples = [differences(rng, 5, 40, spread) for _ in range(EXPERIMENTS)]
    means = [float(sample_SU.mean()) for sample_SU in samples]
    variances = [for_both(sample_SU).standard_error ** 2 for sample_SU in samples]
    assert np.var(means) == pytest.approx(0.25 + 0.16 + 0.09, rel=0.25)
    assert np.mean(variances) == pytest.approx(0.25 + 0.16 + 2 * 0.09, rel=0.1)


@pytest.mark.parametrize(
    ("spread", "most"),
    [
        pytest.param(Spread(training=1), CONFIDENCE + TOLERANCE, id="training"),
        pytest.param(Spread(taste=1), CONFIDENCE + TOLERANCE, id="taste"),
        pytest.param(Spread(1, 1), CONFIDENCE + TOLERANCE, id="both"),
        pytest.param(Spread(1, 0.5, 0.5), 1.0, id="all"),
        pytest.param(Spread(rest=1), 1.0, id="rest"),
    ],
)
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_of_both_holds_the_truth_as_often_as_it_says(
    seeds: int, spread: Spread, most: float
) -> None:
    rng = np.random.default_rng(4)
    intervals = [
        for_both(differences(rng, seeds, 60, spread, TRUE)).interval() for _ in range(EXPERIMENTS)
    ]
    assert CONFIDENCE - TOLERANCE <= coverage(intervals) <= most


def test_each_part_holds_the_truth_of_its_own_question_only() -> None:
    rng = np.random.default_rng(5)
    training = [differences(rng, 5, 60, Spread(training=1, rest=0.5), TRUE) for _ in range(600)]
    of_trainings = [for_new_trainings(sample_SU).interval() for sample_SU in training]
    of_users = [for_new_users(sample_SU).interval() for sample_SU in training]
    assert coverage(of_trainings) == pytest.approx(CONFIDENCE, abs=TOLERANCE)
    # Trained again, the models differ by more than an interval over users knows of.
    assert coverage(of_users) < 0.8


def test_without_any_spread_there_is_certainty() -> None:
    same = for_both(np.zeros((3, 4)))
    assert (same.interval(), same.p_value()) == (Interval(0.0, 0.0), 1.0)
    everywhere = for_both(np.full((2, 4), 0.25))
    assert (everywhere.interval(), everywhere.p_value()) == (Interval(0.25, 0.25), 0.0)
