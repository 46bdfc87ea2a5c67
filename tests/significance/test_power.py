"""Seeds needed, against published tables, an integral without noncentral t, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from peercollab.significance.power import MOST_SEEDS, POWER, power_of, seeds_needed


def by_integral(seeds: int, difference: float, spread: float) -> float:
    """Over the spread that is found: the chance that the mean is above what it asks for."""
    degrees = seeds - 1
    critical = stats.t.ppf(0.975, degrees)
    shift = abs(difference) / spread * math.sqrt(seeds)

    def found(share: float) -> float:
        needed = critical * math.sqrt(stats.chi2.ppf(share, degrees) / degrees)
        return float(stats.norm.sf(needed - shift))

    return float(integrate.quad(found, 0, 1, limit=200)[0])


# Of G*Power 3.1, one-sample t test, two-sided, 5 %, 80 %: effect size and sample size.
@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_published_sample_sizes(effect: float, seeds: int) -> None:
    assert seeds_needed(effect * 0.002, 0.002) == seeds
    assert seeds_needed(-effect * 0.002, 0.002) == seeds


@pytest.mark.parametrize(("seeds", "effect"), [(2, 1.0), (3, 2.0), (5, 1.5), (12, 0.3), (200, 0.2)])
def test_power_is_the_integral(seeds: int, effect: float) -> None:
    assert power_of(seeds, effect, 1.0) == pytest.approx(by_integral(seeds, effect, 1.0), abs=1e-6)


def test_the_seeds_needed_find_it_in_four_of_five_experiments() -> None:
    seeds = seeds_needed(0.003, 0.002)
    assert seeds is not None
    sample = np.random.default_rng(17).normal(0.003, 0.002, size=(4000, seeds))
    found = stats.ttest_1samp(sample, 0.0, axis=1).pvalue < 0.05
    # Four standard deviations of a share of 4000 are 0.025; a whole seed more adds some.
    assert POWER - 0.025 < np.mean(found) < POWER + 0.1


@given(st.floats(0.1, 1e6))
def test_one_seed_fewer_would_not_do(effect: float) -> None:
    seeds = seeds_needed(effect, 1.0)
    assert seeds is not None
    assert power_of(seeds, effect, 1.0) >= POWER
    assert seeds == 2 or power_of(seeds - 1, effect, 1.0) < POWER


def test_where_nothing_can_be_computed() -> None:
    assert seeds_needed(0.0, 0.1) is None
    assert seeds_needed(0.0, 0.0) is None
    assert seeds_needed(0.001, 0.1) is None
    assert seeds_needed(0.0885, 1.0) is None
    assert (seeds_needed(0.0888, 1.0) or 0) > 0.99 * MOST_SEEDS


def test_a_spread_of_nothing_or_next_to_nothing_needs_two_seeds() -> None:
    assert seeds_needed(0.1, 0.0) == 2
    assert seeds_needed(0.1, 1e-320) == 2
