"""Whether a network's weights are numbers still, and no larger than training should make them."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# By how many times the largest weight may grow within a round before a peer gives it to others;
# where it is below 1, from 1.
MOST_GROWTH = 1e4


def is_finite(network: nn.Module) -> bool:
    """Whether every weight, and every statistic in a buffer, is a finite number."""
    return math.isfinite(
        _largest(v for v in network.state_dict().values() if v.is_floating_point())
    )


def largest_weight(network: nn.Module) -> float:
    """The largest absolute value of any weight; statistics in buffers do not count."""
    return _largest(network.parameters())


def most_allowed(network: nn.Module) -> float:
    """What no weight may be above at the end of a round that begins with these."""
    return MOST_GROWTH * max(1.0, largest_weight(network))


def _largest(values: Iterable[Tensor]) -> float:
    detached = [value.detach() for value in values]
    return float(torch.nn.utils.get_total_norm(detached, norm_type=math.inf))
