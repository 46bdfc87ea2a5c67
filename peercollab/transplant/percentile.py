"""Which entries lie below a percentile, exactly and without sorting.

The percentile is numpy's, with linear interpolation. It lies between two neighbours in sorted
order and never on the upper one, so a selection of the lower neighbour is enough; `torch.quantile`
would sort, and refuses large tensors.
"""

import math
from fractions import Fraction

import torch
from torch import Tensor


def above(values_T: Tensor, percent: float) -> Tensor:
    """bool, of the values' shape: whether each is above the percentile."""
    return values_T > _select(values_T, math.floor(_rank(values_T, percent)))


def below(values_T: Tensor, percent: float) -> Tensor:
    """bool, of the values' shape: whether each is below the percentile."""
    rank = _rank(values_T, percent)
    lower_T = _select(values_T, math.floor(rank))
    between = rank.denominator > 1 and bool(_select(values_T, math.ceil(rank)) > lower_T)
    return values_T <= lower_T if between else values_T < lower_T


def _rank(values_T: Tensor, percent: float) -> Fraction:
    # In fractions: 100 * (57 / 100) is below 57 in floating point.
    return (values_T.numel() - 1) * Fraction(percent) / 100


def _select(values_T: Tensor, rank: int) -> Tensor:
    """The value of that rank, from 0."""
    return torch.kthvalue(values_T.flatten(), rank + 1).values
