"""Independent streams of random numbers for every peer and purpose, all from one seed.

Each is a pure function of seed, stream number, purpose and position, so nothing about a
generator has to be saved: an epoch that is run again draws the same numbers.
"""

from typing import Literal

import numpy as np

Purpose = Literal["initialisation", "order", "dropout"]
# The stream of what all peers have in common; their own are numbered from 1.
SHARED_STREAM = 0

_PURPOSES: tuple[Purpose, ...] = ("initialisation", "order", "dropout")


def stream_seed(seed: int, stream: int, purpose: Purpose, position: int = 0) -> int:
    """A seed of 63 bits for one purpose of one stream, at one position (an epoch)."""
    key = (stream, _PURPOSES.index(purpose), position)
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
