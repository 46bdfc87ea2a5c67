"""Seeds needed, against published tables, an integral without noncentral t, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from peercollab.significance.power import (
    MOST_SEEDS,
    POWER,
    Effect,
    effect_of,
    enough_users,
    power_of,
    seeds_needed,
)
from peercollab.significance.student import for_new_users
from tests.significance.made_up import Spread, differences


def effect(difference: float, spread: float) -> Effect:
    """Without any luck of users."""
    return Effect(difference, spread, taste=0.0, rest=0.0, users=1000)


def by_integral(degrees: float, shift: float, level: float) -> float:
    """Over the spread that is found: the chance that the mean is above what it asks for."""
    critical = stats.t.ppf(1 - level / 2, degrees)

    def found(share: float) -> float:
        needed = critical * math.sqrt(stats.chi2.ppf(share, degrees) / degrees)
        return float(stats.norm.sf(needed - shift))

    return float(integrate.quad(found, 0, 1, limit=200)[0])


# Of G*Power 3.1, one-sample t test, two-sided, 5 %, 80 %: effect size and sample size.
@pytest.mark.parametrize(("size", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_published_sample_sizes(size: float, seeds: int) -> None:
    assert seeds_needed(effect(size * 0.002, 0.002)) == seeds
    assert seeds_needed(effect(-size * 0.002, 0.002)) == seeds


@pytest.mark.parametrize("level", [0.05, 0.005])
@pytest.mark.parametrize(("seeds", "size"), [(2, 1.0), (3, 2.0), (5, 1.5), (12, 0.3), (200, 0.2)])
def test_power_is_the_integral(seeds: int, size: float, level: float) -> None:
    expected = by_integral(seeds - 1, size * math.sqrt(seeds), level)
    assert power_of(seeds, effect(size, 1.0), level) == pytest.approx(expected, abs=1e-6)


def test_the_hardest_question_decides() -> None:
    # The luck of users is as large as that of four seeds: the variances add up.
    both = Effect(1.5, 1.0, taste=0.4, rest=0.6, users=40)
    rng = np.random.default_rng(16)
    means = rng.normal(1.5, 0.5, size=200_000)
    of_seeds = 0.25 * rng.chisquare(3, size=200_000) / 3
    total = of_seeds + 0.25
    degrees = total**2 / (0.25**2 / 39 + of_seeds**2 / 3)
    claimed = (means > stats.t.ppf(0.975, degrees) * np.sqrt(total)) & (
        means > stats.t.ppf(0.975, 3) * np.sqrt(of_seeds)
    )
    assert power_of(4, both) == pytest.approx(np.mean(claimed), abs=5e-3)
    assert power_of(4, both) < power_of(4, effect(1.5, 1.0)) - 0.05


def test_users_are_enough_if_the_difference_is_beyond_what_they_differ_by() -> None:
    for difference, enough in ((0.0021, True), (0.0019, False)):
        true = Effect(difference, 0.001, taste=0.001, rest=0.0, users=10_000)
        assert (seeds_needed(true) is not None) == enough_users(true) == enough
        # What is peculiar to a user under a seed goes with more seeds.
        assert enough_users(Effect(difference, 0.001, taste=0.0, rest=0.02, users=10_000))
    # No longer where p has to be smaller.
    assert not enough_users(Effect(0.0021, 0.001, 0.001, 0.0, 10_000), level=0.005)
    assert enough_users(effect(0.001, 0.1))
    # No difference at all, as of an arm that comes to the very model of the baseline.
    assert not enough_users(Effect(0.0, 0.0, 0.0, 0.0, 10_000))


def test_what_users_share_between_seeds_is_told_from_what_they_do_not() -> None:
    rng = np.random.default_rng(18)
    spread = Spread(training=0.001, taste=0.002, rest=0.003)
    found = [effect_of(differences(rng, 4, 300, spread, 0.01)) for _ in range(200)]
    of_all = {
        name: np.mean([getattr(of, name) ** 2 for of in found]) ** 0.5
        for name in ("taste", "rest", "spread")
    }
    # Of one seed, where those of `Spread` are of the mean of all four.
    assert of_all["taste"] == pytest.approx(0.002, rel=0.05)
    assert of_all["rest"] == pytest.approx(0.003 * 2, rel=0.05)
    assert of_all["spread"] == pytest.approx(math.hypot(0.001, 0.003) * 2, rel=0.1)
    exact = differences(rng, 3, 50, Spread(rest=0.003))
    error = for_new_users(exact).standard_error
    assert effect_of(exact).users_error(3) >= error * (1 - 1e-9)
    shared = np.tile(exact.mean(axis=0), (3, 1))
    assert effect_of(shared).rest == pytest.approx(0.0, abs=1e-12)
    assert effect_of(shared).taste == pytest.approx(error)


def test_the_seeds_needed_find_it_in_four_of_five_experiments() -> None:
    seeds = seeds_needed(effect(0.003, 0.002))
    assert seeds is not None
    sample = np.random.default_rng(17).normal(0.003, 0.002, size=(4000, seeds))
    found = stats.ttest_1samp(sample, 0.0, axis=1).pvalue < 0.05
    # Four standard deviations of a share of 4000 are 0.025; a whole seed more adds some.
    assert POWER - 0.025 < np.mean(found) < POWER + 0.1


@given(st.floats(0.1, 1e6))
def test_one_seed_fewer_would_not_do(size: float) -> None:
    seeds = seeds_needed(effect(size, 1.0))
    assert seeds is not None
    assert power_of(seeds, effect(size, 1.0)) >= POWER
    assert seeds == 2 or power_of(seeds - 1, effect(size, 1.0)) < POWER


def test_where_nothing_can_be_computed() -> None:
    assert seeds_needed(effect(0.0, 0.1)) is None
    assert seeds_needed(effect(0.0, 0.0)) is None
    assert seeds_needed(effect(0.001, 0.1)) is None
    assert seeds_needed(effect(0.0885, 1.0)) is None
    assert (seeds_needed(effect(0.0888, 1.0)) or 0) > 0.99 * MOST_SEEDS


def test_a_spread_of_nothing_or_next_to_nothing_needs_two_seeds() -> None:
    assert seeds_needed(effect(0.1, 0.0)) == 2
    assert seeds_needed(effect(0.1, 1e-320)) == 2
