"""Whether a cluster has room for the peers: pure functions of what its nodes have.

What a node has is a mapping from Ray's names of resources, such as ``CPU`` and ``GPU``, to
amounts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import floor
from typing import Any

from peercollab.actors.options import ExecutionOptions

Node = Mapping[str, float]

# Ray counts in whole multiples of this share of a resource.
UNIT = 1e-4


@dataclass(frozen=True)
class Demand:
    """What a run asks of a cluster.

    Attributes
    ----------
    options
        What the user asked for.
    peers, threads
        How many peers, and the threads of each.
    bundle
        The resources of one peer, which lie on one node.
    """

    options: ExecutionOptions
    peers: int
    threads: int
    bundle: Mapping[str, float]

    def placed(self, nodes: Sequence[Node]) -> int:
        """How many of the peers have room at once."""
        room = [peers_on(node, self.bundle) for node in nodes]
        if self.options.placement == "strict-spread":
            room = [min(1, peers) for peers in room]
        return min(self.peers, sum(room))

    def fits(self, nodes: Sequence[Node]) -> bool:
        """Whether all peers have room at once."""
        return self.placed(nodes) == self.peers

    def remedies(self, nodes: Sequence[Node]) -> list[str]:
        """Options of which each alone would make it fit these nodes."""

        def fits(threads: int = self.threads, **changes: Any) -> bool:
            options = replace(self.options, **changes)
            return demand_of(options, self.peers, threads, nodes).fits(nodes)

        ways = []
        if gpus := self.bundle.get("GPU"):
            shares = [floor(100 / together) / 100 for together in range(1, self.peers + 1)]
            sharing = (x for x in shares if 0 < x < gpus and fits(gpus_per_peer=x))
            ways += [f"--gpus-per-peer {share:g}" for share in islice(sharing, 1)]
        if self.options.placement == "strict-spread" and fits(placement="spread"):
            ways.append("--placement spread")
        if self.options.wait_for_resources:  # Otherwise cores are shared as it is.
            fewer = (threads for threads in range(self.threads - 1, 0, -1) if fits(threads))
            ways += [f"--threads-per-peer {threads}" for threads in islice(fewer, 1)]
        if placed := self.placed(nodes):
            ways.append(f"--peers {placed}")
        if gpus and fits(device="cpu"):
            ways.append("--device cpu")
        return ways


def demand_of(options: ExecutionOptions, peers: int, threads: int, nodes: Sequence[Node]) -> Demand:
    """What so many peers of so many threads ask of a cluster of these nodes.

    A run that is to start at once makes do with what there is: where cores are fewer than
    threads, peers share them, and ask for a fraction. One that waits for resources asks for a
    core a thread.
    """
    bundle = {"CPU": float(threads)}
    has_gpu = any(node.get("GPU", 0.0) > 0 for node in nodes)
    if options.device == "cuda" or (options.device == "auto" and has_gpu):
        bundle["GPU"] = options.gpus_per_peer
    whole = Demand(options, peers, threads, bundle)
    if options.wait_for_resources:
        return whole
    cores = {node.get("CPU", 0.0) for node in nodes}
    shares = {floor(1000 * core / peer) / 1000 for core in cores for peer in range(1, peers + 1)}
    candidates = [
        replace(whole, bundle={**bundle, "CPU": cpu})
        for cpu in {*(share for share in shares if 0 < share < threads), float(threads)}
    ]
    return max(candidates, key=lambda demand: _preference(demand, nodes))


def _preference(demand: Demand, nodes: Sequence[Node]) -> tuple[int, int, float]:
    """As many peers as can be, on as many nodes where they are spread, with as many cores."""
    hosts = sum(peers_on(node, demand.bundle) > 0 for node in nodes)
    spread = 0 if demand.options.placement == "pack" else min(hosts, demand.peers)
    return demand.placed(nodes), spread, demand.bundle["CPU"]


def peers_on(node: Node, bundle: Mapping[str, float]) -> int:
    """How many bundles a node holds."""
    return min(_holds(name, node.get(name, 0.0), amount) for name, amount in bundle.items())


def _holds(name: str, has: float, amount: float) -> int:
    # A share of a GPU lies on one card: two cards hold two shares of 0.66, and not three.
    if name == "GPU" and amount < 1:
        return floor(has + UNIT) * _holds("", 1.0, amount)
    return round(has / UNIT) // max(1, round(amount / UNIT))
