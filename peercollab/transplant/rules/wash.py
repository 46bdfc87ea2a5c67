"""WASH: at every step a random few entries are shuffled among the peers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from peercollab.data.sequences import Int64Array
from peercollab.transplant.plan import Request
from peercollab.transplant.rules.position_rule import PositionRule, entries, put
from peercollab.transplant.rules.rule import Bundles, Intake, Memory


@dataclass(frozen=True, kw_only=True)
class Wash(PositionRule):
    """At a random `share` of all entries the peers' values are permuted among the peers.

    Each position has a permutation of its own, so that over all peers no value is lost. At every
    step; the published share could not be found, and the default of 0.01 is ours, as is that
    all layers have the same. The run ends in the average of the peers.
    """

    name = "wash"
    reference = (
        "WASH: Train your Ensemble with Communication-Efficient Weight Shuffling, then Average, "
        "arXiv 2405.17517; the share is ours"
    )
    select = "uniform-soup"
    addressed = True

    share: float = 0.01

    def sources(
        self, n_peers: int, draw: int, positions: dict[str, Int64Array]
    ) -> dict[str, Int64Array]:
        """int64 ``[positions, peers]`` of each tensor: the place of each receiver's donor."""
        generator = np.random.default_rng((draw, n_peers))
        return {
            name: generator.random((len(own), n_peers)).argsort(axis=1)
            for name, own in positions.items()
        }

    def give(self, own: Bundles, request: Request) -> Bundles:
        assert request.receiver is not None
        positions = self.positions(request.exchange, own)
        sources = self.sources(len(request.peers), request.exchange.draw, positions)
        donor, receiver = (request.peers.index(p) for p in (request.donor, request.receiver))
        return {
            name: entries(bundle, positions[name][sources[name][:, receiver] == donor])
            for name, bundle in own.items()
        }

    def take(self, intake: Intake, memory: Memory) -> Mapping[str, float]:
        plan = intake.plan
        positions = self.positions(plan.exchange, intake.own)
        sources = self.sources(len(plan.peers), plan.exchange.draw, positions)
        me = plan.peers.index(intake.me)
        for donor, given in intake.given.items():
            for name, own in intake.own.items():
                from_donor = sources[name][:, me] == plan.peers.index(donor)
                for own_T, values_T in zip(own, given[name], strict=True):
                    put(own_T, positions[name][from_donor], values_T)
        return {}
