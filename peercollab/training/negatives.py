"""Which items a loss scores in place of the whole catalogue."""

import numpy as np
import torch
from torch import Tensor

from peercollab.data.sequences import Int64Array
from peercollab.errors import PeercollabError

# Added to each item's count: an item that nobody has must be pushed down, too.
_ADDED_COUNT = 1


class NegativeSampler:
    """Draws items to be scored as negatives; every draw is a function of the generator alone.

    Parameters
    ----------
    counts_V
        int64 ``[items]``: training interactions of each.
    negatives
        How many are drawn: for all positions of a step together, or for each of them.

    Attributes
    ----------
    log_q_V : Tensor
        float32 ``[items]``: the logarithm of how often `by_popularity` is expected to draw each.

    Raises
    ------
    PeercollabError
        There are fewer than two items, or fewer than one negative is asked for.
    """

    def __init__(self, counts_V: Int64Array, negatives: int) -> None:
        if len(counts_V) < 2:
            raise PeercollabError(
                f"negatives cannot be drawn from a catalogue of {len(counts_V)}: use --loss full"
            )
        if negatives < 1:
            raise PeercollabError(f"{negatives} negatives were asked for: take 1 or more")
        self.negatives = negatives
        smoothed_V = counts_V + _ADDED_COUNT
        # Whole numbers, so that the probabilities are exact however many items there are.
        self._up_to_V = np.cumsum(smoothed_V)
        expected_V = negatives * smoothed_V / self._up_to_V[-1]
        self.log_q_V = torch.from_numpy(np.log(expected_V).astype(np.float32))

    def by_popularity(self, generator: np.random.Generator) -> Tensor:
        """int64 ``[negatives]``, with replacement, in ascending order.

        An item's probability is its share of all training interactions, 1 added to each count.
        Targets are drawn like others: it is for the loss to leave them out.
        """
        ticket_K = generator.integers(self._up_to_V[-1], size=self.negatives)
        # In order, neighbouring searches walk through the same part of the memory.
        ticket_K.sort()
        return torch.from_numpy(np.searchsorted(self._up_to_V, ticket_K, side="right"))

    def uniform(self, generator: np.random.Generator, targets_N: Tensor) -> Tensor:
        """int32 ``[positions, negatives]``, with replacement, never a position's own target.

        That is how gSASRec's paper defines negatives; its released code draws from all items.

        Parameters
        ----------
        targets_N
            int64 ``[positions]``, on the CPU.
        """
        size = (len(targets_N), self.negatives)
        others = len(self._up_to_V) - 1
        drawn_NK = generator.integers(others, size=size, dtype=np.int32)
        # Numbers of the others count on past the target. A comparison in torch would start threads
        # for the thread that calls this, beside those that train.
        drawn_NK += drawn_NK >= targets_N.numpy()[:, None]
        return torch.from_numpy(drawn_NK)
