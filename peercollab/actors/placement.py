"""A place for every peer in a Ray cluster, or, in seconds, why there is none.

Whether there is room is told in feasibility.py, in what words in shortage.py: here it is asked for.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from peercollab.actors import shortage
from peercollab.actors.feasibility import Demand, Node, demand_of
from peercollab.actors.options import ExecutionOptions
from peercollab.errors import PeercollabError

Say = Callable[[str], None]

STRATEGIES = {"pack": "PACK", "spread": "SPREAD", "strict-spread": "STRICT_SPREAD"}

# Where there is room Ray places peers at once, unless other work slows it down. What a run had
# that has just ended is given back within a second or two.
SECONDS_TO_PLACE = 30.0
SECONDS_TO_BE_GIVEN_BACK = 8.0
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LINES = 30.0


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def reserve(
    options: ExecutionOptions, peers: int, threads: int, say: Say = say
) -> tuple[PlacementGroup, dict[str, float]]:
    """A place for every peer of so many threads, and what each has there.

    Parameters
    ----------
    options
        What a peer needs, how peers are laid out, and how long room may be waited for.
    peers, threads
        How many peers, and the threads of each.
    say
        Prints a line.

    Raises
    ------
    PeercollabError
        The cluster does not have what the peers need, or others use it, and it was not waited for,
        or not long enough. Nothing has been started, and nothing stays reserved.
    """
    nodes = _nodes()
    demand = demand_of(options, peers, threads, nodes)
    waits = options.wait_for_resources > 0
    if waits and options.device == "auto" and "GPU" not in demand.bundle:
        say("the cluster has no GPU now, so peers take CPUs; --device cuda waits for GPUs")
    if not waits and not demand.fits(nodes):
        raise _too_small(demand, nodes)
    # Where it is waited for it is asked for though there is no room: an autoscaler goes by that.
    group = placement_group([dict(demand.bundle)] * peers, strategy=STRATEGIES[options.placement])
    try:
        if waits:
            _wait_for_more(group, demand, say)
        else:
            _wait_for_ray(group, demand)
    except BaseException:
        remove_placement_group(group)
        raise
    return group, dict(demand.bundle)


def room_for_one(options: ExecutionOptions, threads: int) -> dict[str, float]:
    """What a task with the threads and GPUs of one peer asks of the cluster.

    Raises
    ------
    PeercollabError
        No node has that, whatever else it does.
    """
    nodes = _nodes()
    demand = demand_of(options, 1, threads, nodes)
    if not demand.fits(nodes):
        raise _too_small(demand, nodes)
    return dict(demand.bundle)


def peers_by_node(group: PlacementGroup) -> Counter[str]:
    """How many peers each node has, by its id."""
    return Counter(placement_group_table(group)["bundles_to_node_id"].values())


def _wait_for_ray(group: PlacementGroup, demand: Demand) -> None:
    """Until every peer has its place in a cluster that can hold them all."""
    started = time.monotonic()
    while not group.wait(SECONDS_BETWEEN_LOOKS):
        passed = time.monotonic() - started
        nodes = _nodes()
        state = placement_group_table(group)["stats"]["scheduling_state"]
        if not demand.fits(nodes):  # A node has left in the meantime.
            raise _too_small(demand, nodes)
        if state == "NO_RESOURCES" and passed >= SECONDS_TO_BE_GIVEN_BACK:
            raise PeercollabError(shortage.in_use(demand, nodes, ray.available_resources()))
        if passed >= SECONDS_TO_PLACE:
            raise PeercollabError(shortage.not_placed(demand, nodes, passed, state))


def _wait_for_more(group: PlacementGroup, demand: Demand, say: Say) -> None:
    """Until every peer has its place, telling meanwhile what is missing."""
    started = time.monotonic()
    patience = 60 * demand.options.wait_for_resources
    told, told_at = "", -math.inf
    while not group.wait(min(SECONDS_BETWEEN_LOOKS, patience)):
        passed = time.monotonic() - started
        nodes, free = _nodes(), ray.available_resources()
        if passed >= patience:
            raise PeercollabError(shortage.waited_in_vain(demand, nodes, free))
        state = shortage.missing(demand, nodes, free)
        if state != told or passed - told_at >= SECONDS_BETWEEN_LINES:
            say(f"waiting, {_in_words(patience - passed)} more at most: {state}")
            told, told_at = state, passed
    if told:
        say(f"room for all peers after {_in_words(time.monotonic() - started)}")


def _nodes() -> list[Node]:
    """What each node that is alive has in all."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _too_small(demand: Demand, nodes: list[Node]) -> PeercollabError:
    joined = bool(demand.options.address or os.environ.get("RAY_ADDRESS"))
    return PeercollabError(shortage.too_small(demand, nodes, joined=joined))


def _in_words(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
