"""Rules against their formulas in numpy."""

import math
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from peercollab.transplant.criteria import CriterionName
from peercollab.transplant.rules.average import Average
from peercollab.transplant.rules.layer_wise import LayerWise
from peercollab.transplant.rules.none import NoExchange
from peercollab.transplant.rules.parameter_wise import ParameterWise
from peercollab.transplant.rules.rule import Rule

WEIGHTS = st.floats(-1e6, 1e6, width=32)
FEW_VALUES = st.integers(-3, 3).map(float)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=6)
# Percents whose hundredth a float64 holds exactly: with them numpy's own percentile is exact.
EXACT_PERCENTS = (12.5, 25.0, 50.0, 62.5, 75.0, 100.0)


@st.composite
def pairs(draw: st.DrawFn, elements: st.SearchStrategy[float]) -> tuple[np.ndarray, np.ndarray]:
    """Receiver's and donor's weight of one shape."""
    shape = draw(SHAPES)
    own, donor = (draw(hnp.arrays(np.float32, shape, elements=elements)) for _ in range(2))
    return own, donor


def mixed(rule: Rule, own: np.ndarray, donor: np.ndarray, keep: float) -> np.ndarray:
    (new_T,) = rule.mix("weight", (torch.from_numpy(own),), (torch.from_numpy(donor),), keep)
    return new_T.numpy()


@pytest.mark.parametrize("criterion", ["entropy", "l1-norm", "l2-norm"])
@given(own=st.floats(0, 3), donor=st.floats(0, 3), steepness=st.floats(0, 100))
def test_layer_wise_keeps_the_logistic_function_of_the_difference(
    criterion: CriterionName, own: float, donor: float, steepness: float
) -> None:
    keep = LayerWise(criterion=criterion, steepness=steepness).keep(own, donor)
    delta = own - donor
    if criterion != "entropy":
        delta = delta / (own + donor) if own + donor > 0 else 0.0
    assert keep == pytest.approx(1 / (1 + np.exp(-steepness * delta)), rel=1e-12)


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e9))
def test_layer_wise_shares_of_two_that_exchange_add_up_to_one(
    own: float, donor: float, steepness: float
) -> None:
    rule = LayerWise(criterion="l1-norm", steepness=steepness)
    keep, other = rule.keep(own, donor), rule.keep(donor, own)
    assert 0 <= keep <= 1
    assert keep + other == pytest.approx(1.0, abs=1e-15)
    assert keep >= 0.5 if own >= donor else keep <= 0.5


@given(st.floats(0, 3), st.floats(0, 3), st.floats(0, 1), st.floats(0, 1e4))
def test_layer_wise_by_arctan_is_the_formula_of_filter_grafting(
    own: float, donor: float, amplitude: float, slope: float
) -> None:
    rule = LayerWise(weighting="arctan", amplitude=amplitude, slope=slope)
    keep = rule.keep(own, donor)
    expected = amplitude / np.pi * np.arctan(slope * (own - donor)) + 0.5
    assert keep == pytest.approx(expected, rel=1e-12)
    assert 0.5 - amplitude / 2 <= keep <= 0.5 + amplitude / 2
    assert keep + rule.keep(donor, own) == pytest.approx(1.0, abs=1e-15)


def test_layer_wise_by_arctan_has_the_published_defaults() -> None:
    keep = LayerWise(weighting="arctan").keep(2.0, 1.99)
    assert keep == pytest.approx(0.4 / np.pi * np.arctan(500 * 0.01) + 0.5, rel=1e-9)


def test_layer_wise_measures_with_the_bins_it_was_given() -> None:
    weight = torch.arange(20.0)
    for bins in (2, 20):
        criterion = LayerWise(bins=bins).measure
        assert criterion is not None
        assert criterion.measure(weight) == pytest.approx(math.log(bins))


@pytest.mark.parametrize("steepness", [1e4, 1e100, 1.7e308])
def test_layer_wise_share_reaches_its_limits_without_overflow(steepness: float) -> None:
    rule = LayerWise(criterion="entropy", steepness=steepness)
    assert rule.keep(2.3, 0.1) == 1.0
    assert rule.keep(0.1, 2.3) == 0.0
    assert rule.keep(1.5, 1.5) == 0.5


@given(st.floats(0, 1e6), st.floats(0, 1e6), pairs(WEIGHTS))
def test_layer_wise_with_steepness_zero_is_the_average(
    own: float, donor: float, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    keep = LayerWise(criterion="entropy", steepness=0.0).keep(own, donor)
    assert keep == 0.5
    np.testing.assert_array_equal(
        mixed(LayerWise(), *pair, keep), mixed(Average(), *pair, Average().keep(own, donor))
    )


@given(pairs(WEIGHTS), st.floats(0, 1))
def test_layer_wise_mixes_by_the_share(pair: tuple[np.ndarray, np.ndarray], keep: float) -> None:
    own, donor = pair
    expected = keep * own.astype(np.float64) + (1 - keep) * donor.astype(np.float64)
    # A cancelling sum is as exact as its larger term.
    atol = 1e-6 * max(np.abs(own).max(), np.abs(donor).max()) + 1e-40
    np.testing.assert_allclose(mixed(LayerWise(), own, donor, keep), expected, rtol=0, atol=atol)


@given(pairs(WEIGHTS))
def test_layer_wise_at_its_limits_is_one_of_the_two_exactly(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    own, donor = pair
    np.testing.assert_array_equal(mixed(LayerWise(), own, donor, 1.0), own)
    np.testing.assert_array_equal(mixed(LayerWise(), own, donor, 0.0), donor)


def test_layer_wise_reads_the_criterion_it_was_given() -> None:
    for name in get_args(CriterionName):
        criterion = LayerWise(criterion=name).measure
        assert criterion is not None
        assert criterion.name == name
    assert LayerWise(criterion="entropy", steepness=1.0).keep(3.0, 1.0) != LayerWise(
        criterion="l1-norm", steepness=1.0
    ).keep(3.0, 1.0)


def test_average_keeps_half_whatever_the_layers_hold() -> None:
    assert Average().keep(0.0, 1e9) == Average().keep(5.0, 5.0) == 0.5
    own, donor = torch.tensor([[1.0, -4.0]]), torch.tensor([[3.0, 8.0]])
    assert Average().mix("weight", (own,), (donor,), 0.5)[0].tolist() == [[2.0, 2.0]]
    assert Average().measure is None


def exact_percentile(magnitudes: list[float], percent: float) -> Fraction:
    """The p-th percentile with linear interpolation, in rational numbers."""
    ordered = [Fraction(x) for x in sorted(magnitudes)]
    at = (len(ordered) - 1) * Fraction(percent) / 100
    lower = math.floor(at)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (at - lower)


def exactly_taken(own: np.ndarray, donor: np.ndarray, percent: float) -> np.ndarray:
    magnitudes = [float(abs(x)) for x in own.ravel()]
    threshold = exact_percentile(magnitudes, percent)
    stays = np.array([Fraction(x) > threshold for x in magnitudes]).reshape(own.shape)
    return np.where(stays, own, donor)


@given(st.one_of(pairs(WEIGHTS), pairs(FEW_VALUES)), st.sampled_from(EXACT_PERCENTS))
def test_parameter_wise_takes_what_is_not_above_numpys_percentile(
    pair: tuple[np.ndarray, np.ndarray], percent: float
) -> None:
    own, donor = pair
    magnitude = np.abs(own.astype(np.float64))
    threshold = np.percentile(magnitude, percent, method="linear")
    expected = np.where(magnitude > threshold, own, donor)
    np.testing.assert_array_equal(mixed(ParameterWise(percent=percent), own, donor, 0.5), expected)


@given(pairs(WEIGHTS), st.floats(2**-6, 100, width=32))
def test_parameter_wise_equals_the_percentile_in_rational_numbers(
    pair: tuple[np.ndarray, np.ndarray], percent: float
) -> None:
    own, donor = pair
    np.testing.assert_array_equal(
        mixed(ParameterWise(percent=percent), own, donor, 0.5), exactly_taken(own, donor, percent)
    )


def test_parameter_wise_takes_the_entry_that_is_the_percentile() -> None:
    # Of 101 entries every whole percentile is an entry itself, which is not above itself.
    own = np.arange(101, 202, dtype=np.float32)[:, None]
    donor = np.zeros_like(own)
    taken = {
        percent: int((mixed(ParameterWise(percent=percent), own, donor, 0.5) == 0).sum())
        for percent in range(1, 101)
    }
    assert taken == {percent: int((own <= np.percentile(own, percent)).sum()) for percent in taken}
    assert taken == {percent: percent + 1 for percent in taken}


@given(pairs(WEIGHTS))
def test_parameter_wise_with_percent_100_takes_everything(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    own, donor = pair
    np.testing.assert_array_equal(mixed(ParameterWise(percent=100), own, donor, 0.0), donor)


@given(SHAPES, WEIGHTS, st.floats(0.01, 100))
def test_parameter_wise_takes_all_of_a_constant(
    shape: tuple[int, ...], value: float, percent: float
) -> None:
    own = np.full(shape, value, dtype=np.float32)
    donor = np.arange(own.size, dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(mixed(ParameterWise(percent=percent), own, donor, 0.5), donor)


def test_parameter_wise_looks_at_the_size_of_an_entry_and_not_its_sign() -> None:
    own = np.array([[-9.0, 1.0], [2.0, -0.5]], dtype=np.float32)
    donor = np.array([[10.0, 20.0], [30.0, 40.0]], dtype=np.float32)
    result = mixed(ParameterWise(percent=50), own, donor, 0.5)
    assert result.tolist() == [[-9.0, 20.0], [2.0, 40.0]]


@pytest.mark.parametrize("percent", [0.0, 1e-9, 50.0, 100.0])
def test_parameter_wise_leaves_one_dimensional_tensors(percent: float) -> None:
    rule = ParameterWise(percent=percent)
    assert not rule.travels(0)
    assert not rule.travels(1)
    for dimensions in (2, 3, 4):
        assert rule.travels(dimensions) == (percent > 0)


def test_parameter_wise_reports_the_share_that_stays() -> None:
    assert ParameterWise(percent=50).keep(1.0, 2.0) == 0.5
    assert ParameterWise(percent=100).keep(1.0, 2.0) == 0.0
    assert ParameterWise(percent=30).keep(1.0, 2.0) == pytest.approx(0.7)
    assert ParameterWise(percent=30).measure is None


@pytest.mark.parametrize("rule", [LayerWise(), Average()], ids=lambda rule: rule.name)
def test_tensors_of_every_dimension_travel_in_whole_layer_rules(rule: Rule) -> None:
    assert all(rule.travels(dimensions) for dimensions in range(5))


def test_none_exchanges_nothing() -> None:
    assert not NoExchange().exchanges
    assert not any(NoExchange().travels(dimensions) for dimensions in range(5))
    assert NoExchange().measure is None


@pytest.mark.parametrize("keep", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "rule", [LayerWise(), Average(), ParameterWise(percent=30)], ids=lambda rule: rule.name
)
def test_mixing_leaves_both_inputs_and_their_memory_alone(rule: Rule, keep: float) -> None:
    generator = torch.Generator().manual_seed(1)
    own, donor = (torch.randn(7, 5, generator=generator) for _ in range(2))
    own_before, donor_before = own.clone(), donor.clone()
    (result,) = rule.mix("weight", (own,), (donor,), keep)
    result.fill_(99.0)
    assert torch.equal(own, own_before)
    assert torch.equal(donor, donor_before)


@pytest.mark.parametrize(
    "rule", [LayerWise(), Average(), ParameterWise(percent=30)], ids=lambda rule: rule.name
)
def test_mixing_does_not_depend_on_layout_in_memory(rule: Rule) -> None:
    generator = torch.Generator().manual_seed(1)
    own, donor = (torch.randn(7, 5, generator=generator) for _ in range(2))
    (result,) = rule.mix("weight", (own.T,), (donor.T,), 0.3)
    assert result.shape == (5, 7)
    laid_out = (own.T.contiguous(),), (donor.T.contiguous(),)
    assert torch.equal(result, rule.mix("weight", *laid_out, 0.3)[0])
