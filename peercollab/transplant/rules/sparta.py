"""SPARTA: at every step a random few entries are averaged over all peers."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from peercollab.transplant.plan import Request
from peercollab.transplant.rules.position_rule import PositionRule, entries, put
from peercollab.transplant.rules.rule import Bundles, Intake, Memory


@dataclass(frozen=True, kw_only=True)
class Sparta(PositionRule):
    """``W_new = mean over peers`` at a random `share` of all entries, the same for all peers.

    At every step and with a share of 0.005 unless told otherwise; its authors report 0.0005 to
    0.005.
    """

    name = "sparta"
    reference = (
        "SPARTA: Sparse Parameter Averaging (EXO Labs, 2025), https://blog.exolabs.net/day-12"
    )

    share: float = 0.005

    def give(self, own: Bundles, request: Request) -> Bundles:
        chosen = self.positions(request.exchange, own)
        return {name: entries(own[name], positions) for name, positions in chosen.items()}

    def take(self, intake: Intake, memory: Memory) -> Mapping[str, float]:
        for name, positions in self.positions(intake.plan.exchange, intake.own).items():
            mine = entries(intake.own[name], positions)
            # The same numbers in the same order, so that all peers come to the same bytes.
            of_all = [mine if p == intake.me else intake.given[p][name] for p in intake.plan.peers]
            for own_T, values in zip(intake.own[name], zip(*of_all, strict=True), strict=True):
                put(own_T, positions, torch.stack(values).mean(dim=0))
        return {}
