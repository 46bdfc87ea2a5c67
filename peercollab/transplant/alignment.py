"""Bring a donor's units into the receiver's order before weights are mixed.

A network computes the same function when its hidden units are permuted, along with all that reads
or writes them. Two networks can hold the same unit in different places, and then mixing entry by
entry blends strangers.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from peercollab.data.sequences import Int64Array
from peercollab.models.model import Symmetry
from peercollab.transplant.rules.rule import Bundles

# Sweeps over all symmetries; matching stops earlier, when a sweep finds nothing better.
MOST_SWEEPS = 50

# A gain below this share of the sum of squares is rounding.
LEAST_GAIN = 1e-9


def align(own: Bundles, donor: Bundles, symmetries: Sequence[Symmetry]) -> Bundles:
    """The donor's tensors with their units permuted to match the receiver's.

    Weight matching of "Git Re-Basin" (ICLR 2023, arXiv 2209.04836), section 3.2: the permutations
    maximise ``sum <own, permuted donor>`` over all weights, one symmetry after another by linear
    assignment, until none of them gains. Moments that travel are permuted like their weight.

    Parameters
    ----------
    own, donor
        Tensors of the same names and shapes; those that `symmetries` do not name stay as they are.
    symmetries
        What may be permuted.
    """
    weights = {name: _array(bundle[0]) for name, bundle in donor.items()}
    matched = match({name: _array(own[name][0]) for name in donor}, weights, symmetries)
    return {
        name: tuple(_permuted(part_T, name, symmetries, matched) for part_T in bundle)
        for name, bundle in donor.items()
    }


def match(
    own: dict[str, np.ndarray], donor: dict[str, np.ndarray], symmetries: Sequence[Symmetry]
) -> list[Int64Array]:
    """For each symmetry, int64 ``[size]``: which of the donor's units comes to each place."""
    chosen = [np.arange(symmetry.size) for symmetry in symmetries]
    least = LEAST_GAIN * sum(float(np.vdot(weight, weight)) for weight in own.values())
    for _ in range(MOST_SWEEPS):
        gained = False
        for which, symmetry in enumerate(symmetries):
            before = _agreement(own, donor, symmetries, chosen, symmetry)
            tried = [*chosen]
            tried[which] = _assign(_similarity(own, donor, symmetries, chosen, which), symmetry)
            if _agreement(own, donor, symmetries, tried, symmetry) > before + least:
                chosen, gained = tried, True
        if not gained:
            break
    return chosen


def permute(
    tensors: dict[str, Tensor], symmetries: Sequence[Symmetry], orders: Sequence[Int64Array]
) -> dict[str, Tensor]:
    """Tensors of a model with its units put in other orders: the same function."""
    return {name: _permuted(value_T, name, symmetries, orders) for name, value_T in tensors.items()}


def _similarity(
    own: dict[str, np.ndarray],
    donor: dict[str, np.ndarray],
    symmetries: Sequence[Symmetry],
    chosen: Sequence[Int64Array],
    which: int,
) -> np.ndarray:
    """``[size, size]``: how well each of the donor's units would do in each place."""
    size = symmetries[which].size
    sums = np.zeros((size, size))
    for name, axis in symmetries[which].axes:
        if name in donor:
            other = donor[name]
            for symmetry, order in zip(symmetries, chosen, strict=True):
                for its_name, its_axis in symmetry.axes:
                    if its_name == name and its_axis != axis:
                        other = other.take(order, axis=its_axis)
            mine = np.moveaxis(own[name], axis, 0).reshape(size, -1)
            sums += mine @ np.moveaxis(other, axis, 0).reshape(size, -1).T
    return sums


def _assign(similarity: np.ndarray, symmetry: Symmetry) -> Int64Array:
    """The best order within each block of units."""
    # To import it takes a fifth of a peer's start, and only peers that align need it.
    from scipy.optimize import linear_sum_assignment

    order = np.arange(symmetry.size)
    for start in range(0, symmetry.size, symmetry.block):
        block = slice(start, start + symmetry.block)
        order[block] = start + linear_sum_assignment(similarity[block, block], maximize=True)[1]
    return order


def _agreement(
    own: dict[str, np.ndarray],
    donor: dict[str, np.ndarray],
    symmetries: Sequence[Symmetry],
    orders: Sequence[Int64Array],
    changed: Symmetry,
) -> float:
    """``sum <own, permuted donor>`` over the tensors that one symmetry touches."""
    return sum(
        float(np.vdot(own[name], _in_order(donor[name], name, symmetries, orders)))
        for name in {name: None for name, _ in changed.axes}
        if name in donor
    )


def _in_order(
    weight: np.ndarray, name: str, symmetries: Sequence[Symmetry], orders: Sequence[Int64Array]
) -> np.ndarray:
    for symmetry, order in zip(symmetries, orders, strict=True):
        for its_name, axis in symmetry.axes:
            if its_name == name:
                weight = weight.take(order, axis=axis)
    return weight


def _permuted(
    value_T: Tensor, name: str, symmetries: Sequence[Symmetry], orders: Sequence[Int64Array]
) -> Tensor:
    for symmetry, order in zip(symmetries, orders, strict=True):
        for its_name, axis in symmetry.axes:
            if its_name == name:
                value_T = value_T.index_select(axis, torch.from_numpy(order).to(value_T.device))
    return value_T


def _array(weight_T: Tensor) -> np.ndarray:
    return weight_T.cpu().numpy().astype(np.float64)
