"""The pigeonhole bootstrap against scipy's, its closed form, and what it gets wrong."""

import numpy as np
import pytest
from scipy import stats

from peercollab.significance.bootstrap import pigeonhole_interval
from peercollab.significance.student import CONFIDENCE, Interval, for_both
from peercollab.training.metrics import Float64Array
from tests.significance.made_up import Spread, differences

# 68.3 % of a normal distribution lie within one standard deviation.
ONE_DEVIATION = 0.6827


def half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def test_with_one_seed_it_is_scipys_bootstrap_over_users() -> None:
    difference_SU = differences(np.random.default_rng(11), 1, 200, Spread(taste=1), true=0.5)
    own = pigeonhole_interval(difference_SU, seed=1, resamples=4000)
    low, high = stats.bootstrap(
        (difference_SU[0],),
        np.mean,
        method="percentile",
        n_resamples=4000,
        random_state=np.random.default_rng(12),
    ).confidence_interval
    assert (own.low, own.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def closed_form_deviation(difference_SU: Float64Array) -> float:
    """Of the mean under products of multinomial counts: the three sums of squares, each once."""
    seeds, users = difference_SU.shape
    by_seed_S, by_user_U = difference_SU.mean(axis=1), difference_SU.mean(axis=0)
    rest_SU = difference_SU - by_seed_S[:, None] - by_user_U + difference_SU.mean()
    variance = by_seed_S.var() / seeds + by_user_U.var() / users + rest_SU.var() / (seeds * users)
    return float(variance**0.5)


@pytest.mark.parametrize(
    "spread", [Spread(1, 1, 1), Spread(training=1), Spread(taste=1), Spread(rest=1)], ids=repr
)
def test_its_width_is_that_of_the_closed_form(spread: Spread) -> None:
    difference_SU = differences(np.random.default_rng(13), 40, 50, spread)
    interval = pigeonhole_interval(difference_SU, seed=1, resamples=4000, confidence=ONE_DEVIATION)
    assert half_width(interval) == pytest.approx(closed_form_deviation(difference_SU), rel=0.1)


def test_what_users_have_in_common_between_seeds_does_not_shrink_with_seeds() -> None:
    # A bootstrap that draws users within each seed would give half the width for four seeds.
    one_SU = differences(np.random.default_rng(14), 1, 300, Spread(taste=1))
    one = half_width(pigeonhole_interval(one_SU, seed=1))
    four = half_width(pigeonhole_interval(np.repeat(one_SU, 4, axis=0), seed=1))
    assert four == pytest.approx(one, rel=0.1)


def test_with_three_seeds_it_is_too_narrow_and_students_interval_is_not() -> None:
    rng = np.random.default_rng(15)
    samples = [differences(rng, 3, 20, Spread(training=1)) for _ in range(200)]
    drawn = [pigeonhole_interval(sample_SU, seed=1, resamples=200) for sample_SU in samples]
    student = [for_both(sample_SU).interval() for sample_SU in samples]
    holding = [
        np.mean([interval.low <= 0 <= interval.high for interval in intervals])
        for intervals in (drawn, student)
    ]
    # Four standard deviations of a share of 200.
    assert holding[0] < 0.85
    assert holding[1] == pytest.approx(CONFIDENCE, abs=0.062)


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    difference_SU = differences(np.random.default_rng(16), 4, 30, Spread(1, 1, 1))
    intervals = [pigeonhole_interval(difference_SU, seed, resamples=100) for seed in (1, 1, 2)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_of_differences_that_are_all_the_same_it_is_that_difference() -> None:
    interval = pigeonhole_interval(np.full((3, 8), 0.25), seed=1, resamples=50)
    assert (interval.low, interval.high) == (0.25, 0.25)
