"""PAPA: every few steps each peer is pulled a little towards the mean of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peercollab.errors import PeercollabError
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.plan import LayerStatistics, Transfer, from_all_others
from peercollab.transplant.rules.rule import Rule


@dataclass(frozen=True, kw_only=True)
class Papa(Rule):
    """``W_new = (1 - s) * W + s * mean over peers``, with s the pull ``1 - factor``.

    The pull shrinks with the learning rate, ``s = (1 - factor) * lr_t / lr_0``. `factor` is 0.99
    as published, every 10 steps; 1 exchanges nothing. The run ends in a soup of the peers.
    """

    name = "papa"
    reference = "PopulAtion Parameter Averaging (PAPA), arXiv 2304.03094"
    every = 10
    select = "greedy-soup"
    ranked = "after"
    aligns = True

    factor: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.factor <= 1:
            raise PeercollabError(f"--factor is {self.factor}: give a number from 0 to 1")

    @property
    def takes_from_all(self) -> bool:
        return True

    def transfers(
        self,
        exchange: Exchange,
        peers: Sequence[int],
        absent: Sequence[int],
        layers: Sequence[str],
        statistics: Mapping[int, LayerStatistics],
    ) -> tuple[Transfer, ...]:
        share = (1 - self.factor) * exchange.pull / len(peers)
        return from_all_others(peers, peers, layers, share) if share else ()
