"""Criteria against formulas written as loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from peercollab.transplant.criteria import (
    CRITERIA,
    entropy,
    l1_norm,
    l2_norm,
    plain_difference,
    relative_difference,
)

FLOAT32_MAX = float(np.finfo(np.float32).max)
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=7)
ANY_FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Few values: many ties, and many entries on the borders of bins.
FEW_VALUES = st.integers(-5, 5).map(float)


def loop_entropy(weight: np.ndarray, bins: int = 10) -> float:
    """H over bins whose last one is closed, an entry at a time, in Python's float64."""
    entries = [float(x) for x in weight.ravel()]
    low, high = min(entries), max(entries)
    if low == high:
        return 0.0
    counts = [0] * bins
    for x in entries:
        counts[min(bins - 1, math.floor((x - low) * bins / (high - low)))] += 1
    shares = [count / len(entries) for count in counts if count]
    return -sum(p * math.log(p) for p in shares)


@given(hnp.arrays(np.float32, SHAPES, elements=ANY_FLOAT32))
def test_entropy_equals_the_loop_for_any_float32(weight: np.ndarray) -> None:
    assert entropy(torch.from_numpy(weight)) == pytest.approx(loop_entropy(weight), abs=1e-12)


@given(hnp.arrays(np.float32, SHAPES, elements=FEW_VALUES))
def test_entropy_equals_the_loop_with_ties_and_entries_on_borders(weight: np.ndarray) -> None:
    assert entropy(torch.from_numpy(weight)) == pytest.approx(loop_entropy(weight), abs=1e-12)


@given(hnp.arrays(np.float32, SHAPES, elements=FEW_VALUES), st.integers(2, 40))
def test_entropy_equals_the_loop_for_any_number_of_bins(weight: np.ndarray, bins: int) -> None:
    expected = loop_entropy(weight, bins)
    assert entropy(torch.from_numpy(weight), bins) == pytest.approx(expected, abs=1e-12)


@given(
    hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([1e-38, 1e-20, 1.0, 1e20, 1e38]),
)
def test_entropy_equals_the_loop_at_every_magnitude(weight: np.ndarray, scale: float) -> None:
    scaled = (weight * np.float32(scale)).astype(np.float32)
    assert entropy(torch.from_numpy(scaled)) == pytest.approx(loop_entropy(scaled), abs=1e-12)


@given(hnp.arrays(np.float64, st.integers(1, 100), elements=st.floats(-1e300, 1e300)))
def test_entropy_equals_the_loop_for_float64(weight: np.ndarray) -> None:
    assert entropy(torch.from_numpy(weight)) == pytest.approx(loop_entropy(weight), abs=1e-12)


@pytest.mark.parametrize("begin", [1.0, -1.0, 1e-300, -3e300])
@pytest.mark.parametrize("steps", [1, 4, 20, 600])
def test_entropy_equals_the_loop_for_float64_of_a_very_narrow_range(
    begin: float, steps: int
) -> None:
    weight = begin + np.arange(steps + 1) * np.spacing(begin)
    value = entropy(torch.from_numpy(weight))
    assert value == pytest.approx(loop_entropy(weight), abs=1e-12)
    assert math.copysign(1, value) == 1


@given(SHAPES, ANY_FLOAT32)
def test_entropy_of_a_constant_is_zero(shape: tuple[int, ...], value: float) -> None:
    assert entropy(torch.full(shape, value)) == 0.0


def test_entropy_of_two_halves_and_of_ten_full_bins_are_known_numbers() -> None:
    assert entropy(torch.tensor([-3.0, -3.0, 8.0, 8.0])) == pytest.approx(math.log(2), abs=1e-15)
    assert entropy(torch.arange(10.0)) == pytest.approx(math.log(10), abs=1e-14)


def test_entropy_counts_the_maximum_in_the_last_bin() -> None:
    # 9.5 and 10 share the last of the bins of width 1: 9 bins hold one entry, one holds two.
    weight = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9.5, 10])
    expected = 9 / 11 * math.log(11) + 2 / 11 * math.log(11 / 2)
    assert entropy(weight) == pytest.approx(expected, abs=1e-14)


def test_entropy_is_computed_in_float64() -> None:
    # Ten thousand float32 steps of the smallest size above 1: float32 would put them elsewhere.
    step = 2.0**-23
    weight = (1 + torch.arange(10_007, dtype=torch.float64) * step).float()
    assert entropy(weight) == pytest.approx(loop_entropy(weight.numpy()), abs=1e-12)


def test_entropy_does_not_depend_on_layout_in_memory() -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert entropy(weight.T) == entropy(weight) == entropy(weight.T.contiguous())


def test_criteria_leave_the_weight_as_it_is() -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    before = weight.clone()
    for criterion in CRITERIA.values():
        if criterion.of == "weight":
            criterion.measure(weight)
    assert torch.equal(weight, before)


@given(hnp.arrays(np.float32, SHAPES, elements=ANY_FLOAT32))
def test_l1_norm_is_the_float64_sum_of_absolute_entries(weight: np.ndarray) -> None:
    expected = math.fsum(abs(float(x)) for x in weight.ravel())
    assert l1_norm(torch.from_numpy(weight)) == pytest.approx(expected, rel=1e-12)


def test_l1_norm_loses_no_small_entry_and_does_not_overflow() -> None:
    assert l1_norm(torch.cat([torch.tensor([2.0**24]), torch.ones(1000)])) == 2.0**24 + 1000
    assert l1_norm(torch.full((4,), -FLOAT32_MAX)) == 4 * FLOAT32_MAX


@given(hnp.arrays(np.float32, SHAPES, elements=ANY_FLOAT32))
def test_l2_norm_is_the_root_of_the_float64_sum_of_squares(weight: np.ndarray) -> None:
    expected = math.sqrt(math.fsum(float(x) ** 2 for x in weight.ravel()))
    assert l2_norm(torch.from_numpy(weight)) == pytest.approx(expected, rel=1e-12)


@given(st.floats(0, 10), st.floats(0, 10))
def test_plain_difference_is_own_less_donor(own: float, donor: float) -> None:
    assert plain_difference(own, donor) == own - donor


@given(st.floats(0, 1e300), st.floats(0, 1e300))
def test_relative_difference_is_signed_and_within_one(own: float, donor: float) -> None:
    delta = relative_difference(own, donor)
    assert -1 <= delta <= 1
    assert relative_difference(donor, own) == -delta
    if own + donor:
        assert delta == pytest.approx((own - donor) / (own + donor), rel=1e-15)


def test_relative_difference_of_nothing_and_nothing_is_zero() -> None:
    assert relative_difference(0.0, 0.0) == 0.0
    assert relative_difference(3.0, 0.0) == 1.0
    assert relative_difference(0.0, 3.0) == -1.0
    assert relative_difference(3.0, 1.0) == 0.5


def test_entropy_compares_plainly_and_norms_relatively() -> None:
    assert CRITERIA["entropy"].difference(2.0, 0.5) == 1.5
    assert CRITERIA["l1-norm"].difference(3.0, 1.0) == 0.5
    weight = torch.tensor([1.0, -2.0, 4.0])
    assert CRITERIA["entropy"].measure(weight) == entropy(weight)
    assert CRITERIA["l1-norm"].measure(weight) == 7.0
    assert CRITERIA["l2-norm"].difference(3.0, 1.0) == 0.5
    assert CRITERIA["l2-norm"].measure(torch.tensor([3.0, -4.0])) == 5.0
