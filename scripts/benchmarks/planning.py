"""How long the coordinator takes to plan an exchange, by peers, layers and choice of donors.

Planning is a pure function of a few numbers a layer, so the peers are nothing but these numbers.
"""

import time
from typing import get_args

import numpy as np

from peercollab.transplant.donors import Donors
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.layers import Layer
from peercollab.transplant.rules.layer_wise import LayerWise
from peercollab.transplant.rules.rule import make_plan
from scripts.benchmarks.measure import spread
from scripts.benchmarks.report import Bar, Row
from scripts.benchmarks.setting import Setting

PART = "planning"
RUNS = 15

# Peers, layers and choices of donors of which a plan must take no longer than the bar. The mean of
# all others is not among them: what it plans is quadratic in peers.
BARRED_SIZE = (64, 200)
BARRED_DONORS = ("ring", "best", "random")
BAR = Bar("at most", 50)


def measure(setting: Setting) -> list[Row]:
    """A row a size and choice of donors."""
    setting.say("planning")
    return [
        Row(
            PART,
            f"a plan for {n_peers} peers of {n_layers} layers, donors {donors}",
            "ms",
            spread([milliseconds(donors, n_peers, n_layers) for _ in range(setting.runs)]),
            bar=BAR if (n_peers, n_layers) == BARRED_SIZE and donors in BARRED_DONORS else None,
        )
        for n_peers, n_layers in setting.sizes.planning
        for donors in get_args(Donors)
    ]


def milliseconds(donors: Donors, n_peers: int, n_layers: int) -> float:
    """Of a core, for one plan: the least of several, as other work only ever adds to it."""
    names = [f"layers.{i}" for i in range(n_layers)]
    layers = {
        name: Layer(name, "middle", {f"{name}.weight": (64, 64), f"{name}.bias": (64,)})
        for name in names
    }
    values = np.random.default_rng(1).uniform(0, 2.3, (n_peers, n_layers))
    statistics = {
        peer: dict(zip(names, row.tolist(), strict=True)) for peer, row in enumerate(values)
    }
    rule = LayerWise(donors=donors)
    taken = []
    for run in range(RUNS):
        started = time.process_time()
        plan = make_plan(Exchange(1, 1, draw=run), rule, layers, statistics)
        taken.append(time.process_time() - started)
    assert len(plan.receivers) == n_peers
    return 1000 * min(taken)
