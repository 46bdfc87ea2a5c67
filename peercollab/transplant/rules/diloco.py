"""DiLoCo: peers train apart for a while, and their mean movement is one outer step of all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from peercollab.errors import PeercollabError
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.plan import LayerStatistics, Transfer, from_all_others
from peercollab.transplant.rules.rule import Bundles, Intake, Memory, Rule

OUTER, MOMENTUM = "outer", "momentum"


@dataclass(frozen=True, kw_only=True)
class DiLoCo(Rule):
    """All peers take ``outer - lr * (g + m * v)``, with ``v = m * v + g``: a Nesterov step.

    g is the mean over peers of ``outer - W``, how far they have gone from the weights that they
    began with together; `outer_lr` is lr, `outer_momentum` m. Every 500 steps as published, at
    most an epoch, and at every epoch's end. Optimizers stay with their peers, and
    statistics in buffers are averaged.
    """

    name = "diloco"
    reference = "DiLoCo: Distributed Low-Communication Training, arXiv 2311.08105"
    every = 500
    at_end = True
    shared_start = True
    ranked = "after"
    remembers = True

    outer_lr: float = 0.7
    outer_momentum: float = 0.9

    def __post_init__(self) -> None:
        if not (math.isfinite(self.outer_lr) and self.outer_lr > 0):
            raise PeercollabError(f"--outer-lr is {self.outer_lr}: give a number above 0")
        if not 0 <= self.outer_momentum < 1:
            raise PeercollabError(
                f"--outer-momentum is {self.outer_momentum}: give a number from 0 up to, not "
                "including, 1"
            )

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
        # Who sits it out must know the movements all the same, to go on from where the others
        # are; of these it takes nothing into its weights.
        return from_all_others(peers, peers, layers, 1 / len(peers)) + from_all_others(
            absent, peers, layers, 0.0
        )

    def begin(self, own: Bundles) -> Memory:
        return {
            OUTER: {name: bundle[0].clone() for name, bundle in own.items()},
            MOMENTUM: {name: torch.zeros_like(bundle[0]) for name, bundle in own.items()},
        }

    def take(self, intake: Intake, memory: Memory) -> Mapping[str, float]:
        for name, own in intake.own.items():
            weights, *moments = zip(*intake.in_order(name), strict=True)
            if name in intake.buffers:
                # A step beyond the mean would make variances negative.
                if intake.me in intake.plan.peers:
                    own[0].copy_(torch.stack(weights).mean(dim=0))
                continue
            outer_T, velocity_T = memory[OUTER][name], memory[MOMENTUM][name]
            # The same numbers in the same order, so that all peers come to the same bytes.
            gradient_T = outer_T - torch.stack(weights).mean(dim=0)
            velocity_T.mul_(self.outer_momentum).add_(gradient_T)
            step_T = gradient_T.add_(velocity_T, alpha=self.outer_momentum)
            outer_T.sub_(step_T, alpha=self.outer_lr)
            if intake.me in intake.plan.peers:
                own[0].copy_(outer_T)
                for own_T, moment in zip(own[1:], moments, strict=True):
                    own_T.copy_(torch.stack(moment).mean(dim=0))
        return {}
