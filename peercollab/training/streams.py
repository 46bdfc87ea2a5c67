"""Independent streams of random numbers for every peer and purpose, all from one seed.

Each is a pure function of seed, stream number, purpose and position, so nothing about a
generator has to be saved: an epoch that is run again draws the same numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Purpose = Literal[
    "initialisation", "order", "dropout", "exchange", "augmentation", "negatives", "score"
]
# The stream of what all peers have in common; their own are numbered from 1.
SHARED_STREAM = 0

# A purpose's place is part of its seeds: new ones go to the end.
_PURPOSES: tuple[Purpose, ...] = (
    "initialisation",
    "order",
    "dropout",
    "exchange",
    "augmentation",
    "negatives",
    "score",
)


def stream_seed(seed: int, stream: int, purpose: Purpose, position: int = 0) -> int:
    """A seed of 63 bits for one purpose of one stream, at one position (an epoch)."""
    key = (stream, _PURPOSES.index(purpose), position)
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


class TorchStream:
    """torch's own generators, lent for a while: each loan goes on where the last one ended.

    Parameters
    ----------
    seed
        Where the stream begins.
    device
        Whose generator is lent besides the CPU's.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._devices = [device] if device.type == "cuda" else []
        self._states: list[Tensor] | None = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Draws in here come from this stream; afterwards the generators are as before."""
        with torch.random.fork_rng(devices=self._devices):
            if self._states is None:
                torch.manual_seed(self._seed)
            else:
                torch.set_rng_state(self._states[0])
                for device, state in zip(self._devices, self._states[1:], strict=True):
                    torch.cuda.set_rng_state(state, device)
            yield
            self._states = [torch.get_rng_state()]
            self._states += [torch.cuda.get_rng_state(device) for device in self._devices]
