"""Learning rates: how they differ between peers, and how they fall over a run."""

import math
from typing import Literal

Schedule = Literal["cosine", "constant"]


def spread_learning_rate(base: float, peer: int, peers: int) -> float:
    """The rate of peer number `peer` (from 1): ``base * (1 + cos(pi * (N - i) / N)) / 2``.

    Two peers get half the base rate and the whole of it; a single one gets the whole. Source:
    the published PCRec code (its flag ``--difflr``).
    """
    return base * (1 + math.cos(math.pi * (peers - peer) / peers)) / 2


def scheduled_learning_rate(base: float, schedule: Schedule, step: int, steps: int) -> float:
    """The rate of step number `step` (from 0) of `steps`; `cosine` anneals to 0."""
    if schedule == "constant":
        return base
    return base * (1 + math.cos(math.pi * step / steps)) / 2
