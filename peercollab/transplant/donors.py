"""From whom each peer receives, and how much of it comes from each donor.

Peers are counted from 0 among those that take part. With two of them all choices are the same.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

Donors = Literal["ring", "best", "random", "mean"]

# For each receiver its donors, with shares of what it receives that add up to 1.
Sources = Sequence[Mapping[int, float]]


def ring(peers: int) -> Sources:
    """Peer i receives from peer i - 1, and the first from the last.

    Source: the published PCRec code.
    """
    return [{(peer - 1) % peers: 1.0} for peer in range(peers)]


def random(peers: int, draw: int) -> Sources:
    """Each peer gives to one other and receives from one other: any derangement, alike likely."""
    generator = np.random.default_rng(draw)
    while True:
        donors = generator.permutation(peers)
        if (donors != np.arange(peers)).all():
            return [{int(donor): 1.0} for donor in donors]


def best(values: Sequence[float]) -> Sources:
    """The peer with the highest value among the others; of equal ones the first.

    Parameters
    ----------
    values
        Every peer's value of one layer.
    """
    first, second = sorted(range(len(values)), key=lambda peer: -values[peer])[:2]
    return [{second if peer == first else first: 1.0} for peer in range(len(values))]


def mean(values: Sequence[float]) -> Sources:
    """All others, each weighted by its value; alike where all their values are 0."""
    sources = []
    for receiver in range(len(values)):
        others = [peer for peer in range(len(values)) if peer != receiver]
        total = sum(values[peer] for peer in others)
        sources.append(
            {peer: values[peer] / total if total else 1 / len(others) for peer in others}
        )
    return sources
