"""What is said of a cluster that does not have what a run needs; pure functions, as in feasibility.

Each message says what the run needs, what the cluster has, and what to do.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from peercollab.actors.feasibility import Demand, Node

# Kinds of nodes that are told apart before a message ends in dots.
MOST_KINDS = 4


def too_small(demand: Demand, nodes: Sequence[Node], *, joined: bool) -> str:
    """Of a cluster that can never hold the run as it is now; `joined` if others started it."""
    return f"{_balance(demand, nodes)}, room for {demand.placed(nodes)}. " + _take(
        [*demand.remedies(nodes), *(["--wait-for-resources MINUTES if nodes will join"] * joined)]
    )


def in_use(demand: Demand, nodes: Sequence[Node], free: Node) -> str:
    """Of a cluster that could hold the run if others did not use it."""
    return (
        f"{_balance(demand, nodes)}, but others use it: free are {_words_of(demand, free)} in all. "
        "Wait for them with --wait-for-resources MINUTES, or ask for less"
    )


def not_placed(demand: Demand, nodes: Sequence[Node], seconds: float, state: str) -> str:
    """Of a cluster that has room, and yet gives none; `state` in Ray's words."""
    return (
        f"{_balance(demand, nodes)}, and yet Ray found no place within {seconds:g} s ({state}). "
        "Try again, or wait longer with --wait-for-resources MINUTES"
    )


def missing(demand: Demand, nodes: Sequence[Node], free: Node) -> str:
    """The state of a cluster that is waited for."""
    peers = demand.peers - demand.placed(nodes)
    return f"{_balance(demand, nodes)}, free are {_words_of(demand, free)} in all; missing: " + (
        f"room for {counted(peers, 'peer')}" if peers else "what others use"
    )


def waited_in_vain(demand: Demand, nodes: Sequence[Node], free: Node) -> str:
    """Of a cluster that has been waited for long enough."""
    minutes = demand.options.wait_for_resources
    ways = [] if demand.fits(nodes) else demand.remedies(nodes)
    return f"waited {minutes:.3g} min: {missing(demand, nodes, free)}. " + _take(
        [*ways, "a longer --wait-for-resources"]
    )


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _balance(demand: Demand, nodes: Sequence[Node]) -> str:
    return f"the run needs {_needs(demand)}; the cluster has {_has(demand, nodes)}"


def _needs(demand: Demand) -> str:
    bundle = demand.bundle
    if demand.peers == 1:
        return f"room for 1 peer of {_words(bundle)}"
    total = _words({name: demand.peers * amount for name, amount in bundle.items()})
    strict = ", each on a node of its own" * (demand.options.placement == "strict-spread")
    return f"room for {demand.peers} peers of {_words(bundle)} ({total} in all){strict}"


def _has(demand: Demand, nodes: Sequence[Node]) -> str:
    kinds = Counter(_words_of(demand, node) for node in nodes)
    if len(kinds) == 1:
        return f"{counted(len(nodes), 'node')} of {next(iter(kinds))}"
    listed = [f"{number} of {kind}" for kind, number in kinds.most_common(MOST_KINDS)]
    more = ["..."] if len(kinds) > MOST_KINDS else []
    return f"{counted(len(nodes), 'node')} ({', '.join(listed + more)})"


def _words_of(demand: Demand, resources: Node) -> str:
    """Of some resources those that the run needs, in words."""
    return _words({name: resources.get(name, 0.0) for name in demand.bundle})


def _words(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:.4g} {name}" for name, amount in resources.items())


def _take(ways: Sequence[str]) -> str:
    *most, last = ways or ["a larger cluster"]
    return "Take " + (f"{', '.join(most)} or {last}" if most else last)
