"""Noise in place of a donor: the control that asks whether any disturbance would do."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from peercollab.errors import PeercollabError
from peercollab.transplant.percentile import below
from peercollab.transplant.rules.parameter_wise import require_percent
from peercollab.transplant.rules.rule import Intake, Memory, Rule


@dataclass(frozen=True, kw_only=True)
class Noise(Rule):
    """Entries with ``|W| < t`` get normal noise of sd ``rate ** (floor(epoch / T) + 1)``.

    There is no donor. Weights of two or more dimensions take part, t is the p-th percentile of
    ``|W|``, epochs count from 0; `percent` is p, `noise_rate` the rate, `noise_period` T.
    """

    name = "noise"
    reference = (
        "the control of Enhancing Top-N Item Recommendations by Peer Collaboration (SIGIR 2022), "
        "arXiv 2111.00429"
    )
    has_donors = False
    moments_travel = False

    percent: float = 50.0
    noise_rate: float = 0.05
    noise_period: int = 30

    def __post_init__(self) -> None:
        require_percent(self.percent)
        if not (math.isfinite(self.noise_rate) and self.noise_rate >= 0):
            raise PeercollabError(f"--noise-rate is {self.noise_rate}: give 0 or more")
        if self.noise_period < 1:
            raise PeercollabError(f"--noise-period is {self.noise_period}: give 1 or more")

    def travels(self, dimensions: int) -> bool:
        return dimensions >= 2

    def deviation(self, round: int) -> float:
        """Standard deviation of the noise in a round, from 1."""
        return float(self.noise_rate ** ((round - 1) // self.noise_period + 1))

    def take(self, intake: Intake, memory: Memory) -> Mapping[str, float]:
        exchange = intake.plan.exchange
        # Drawn on the CPU, so that every device adds the same.
        generator = np.random.default_rng((exchange.draw, intake.me))
        for own_T, *_ in intake.own.values():
            noise = generator.standard_normal(own_T.shape, dtype=np.float32)
            noise_T = torch.from_numpy(noise).to(own_T) * self.deviation(exchange.round)
            own_T.copy_(torch.where(below(own_T.abs(), self.percent), own_T + noise_T, own_T))
        return {}
