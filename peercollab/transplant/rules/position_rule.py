"""What the rules have in common that exchange a random few entries, often."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from peercollab.data.sequences import Int64Array
from peercollab.errors import PeercollabError
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.plan import LayerStatistics, Transfer, from_all_others
from peercollab.transplant.rules.rule import Bundle, Rule


@dataclass(frozen=True, kw_only=True)
class PositionRule(Rule):
    """All peers draw the same positions, from the seed of the exchange; only these travel."""

    every = 1
    shared_start = True
    ranked = "after"

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise PeercollabError(f"--share is {self.share}: give a number above 0, and at most 1")

    def transfers(
        self,
        exchange: Exchange,
        peers: Sequence[int],
        absent: Sequence[int],
        layers: Sequence[str],
        statistics: Mapping[int, LayerStatistics],
    ) -> tuple[Transfer, ...]:
        return from_all_others(peers, peers, layers, self.share / len(peers))

    def positions(self, exchange: Exchange, tensors: Mapping[str, Bundle]) -> dict[str, Int64Array]:
        """Positions of each tensor's entries, flattened, that are exchanged; ascending.

        They are drawn over all tensors at once, without replacement, at least one: short
        tensors have their part as well as long ones.
        """
        sizes = [bundle[0].numel() for bundle in tensors.values()]
        total = sum(sizes)
        generator = np.random.default_rng(exchange.draw)
        count = max(1, round(self.share * total))
        drawn = np.sort(generator.choice(total, count, replace=False, shuffle=False))
        ends = np.cumsum(sizes)
        cuts = np.searchsorted(drawn, ends)
        return {
            name: part - (end - size)
            for name, part, end, size in zip(
                tensors, np.split(drawn, cuts[:-1]), ends, sizes, strict=True
            )
        }


def entries(bundle: Bundle, positions: Int64Array) -> Bundle:
    """The entries at some positions, each ``[positions]``."""
    index = torch.from_numpy(positions)
    return tuple(part_T.flatten()[index.to(part_T.device)] for part_T in bundle)


def put(own_T: Tensor, positions: Int64Array, values_T: Tensor) -> None:
    """Write entries in place."""
    own_T.view(-1)[torch.from_numpy(positions).to(own_T.device)] = values_T
