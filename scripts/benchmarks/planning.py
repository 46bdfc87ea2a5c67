"""How long the coordinator takes to plan an exchange, by peers, layers and choice of donors.

    .venv/bin/python scripts/benchmarks/planning.py

Planning is a pure function of a few numbers a layer, so the peers are nothing but these numbers.
The least of several runs is taken: other work on the machine only ever adds to it.
"""

import time
from typing import get_args

import numpy as np

from peercollab.transplant.donors import Donors
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.layers import Layer
from peercollab.transplant.rules.layer_wise import LayerWise
from peercollab.transplant.rules.rule import make_plan

SIZES = ((8, 200), (16, 200), (32, 200), (64, 200), (64, 100), (64, 50))
RUNS = 15


def milliseconds(donors: Donors, n_peers: int, n_layers: int) -> float:
    """Of one plan."""
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
        started = time.perf_counter()
        plan = make_plan(Exchange(1, 1, draw=run), rule, layers, statistics)
        taken.append(time.perf_counter() - started)
    assert len(plan.receivers) == n_peers
    return 1000 * min(taken)


def main() -> None:
    """Print a table: a row a size, a column a choice of donors."""
    choices = get_args(Donors)
    print("peers  layers  " + "  ".join(f"{choice:>8}" for choice in choices) + "   ms")
    for n_peers, n_layers in SIZES:
        row = (milliseconds(choice, n_peers, n_layers) for choice in choices)
        print(f"{n_peers:5}  {n_layers:6}  " + "  ".join(f"{value:8.2f}" for value in row))


if __name__ == "__main__":
    main()
