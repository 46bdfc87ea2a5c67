"""Whether the nodes' object stores hold what peers exchange in a round."""

from collections.abc import Mapping

import ray
from ray.util.placement_group import PlacementGroup

from peercollab.actors.messages import SharedSetup
from peercollab.actors.placement import peers_by_node
from peercollab.data.sequences import Histories
from peercollab.models.build import model_bytes

MB = 1 << 20
# How a store is given more memory.
REMEDY = "`ray start --object-store-memory BYTES`, and in a container --shm-size"
# Of every tensor, what Adam keeps.
MOMENTS = 2


def warn_of_small_stores(group: PlacementGroup, shared: SharedSetup, histories: Histories) -> None:
    """Print a line if exchanges would overflow the store of a node: Ray then uses its disk."""
    stores = {
        node["NodeID"]: node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes()
    }
    from_all = shared.transplant.rule.takes_from_all
    parcel, peers = parcel_bytes(shared, histories), peers_by_node(group)
    if line := small_store(parcel, peers, stores, from_all=from_all):
        print(line, flush=True)


def parcel_bytes(shared: SharedSetup, histories: Histories) -> int:
    """The most that a peer gives in an exchange: its model, and Adam's moments if they travel."""
    rule = shared.transplant.rule
    if not (rule.exchanges and rule.has_donors):
        return 0
    moments = MOMENTS if shared.transplant.moments == "transplant" else 0
    model = model_bytes(histories.n_items, shared.model, histories.n_users)
    return (1 + moments) * model


def small_store(
    parcel: int, peers_of: Mapping[str, int], store_of: Mapping[str, float], *, from_all: bool
) -> str | None:
    """A line on the node whose store falls shortest of its need, if one does. A pure function.

    What the node's peers give in a round must have room, and what they take: as much again, or,
    `from_all`, what every peer gives. What comes from the node's own peers counts twice, as what
    the exchange before left may not be gone yet.

    Parameters
    ----------
    parcel
        Bytes that a peer gives in a round.
    peers_of, store_of
        Peers of each node, and bytes of its store where they are known, by the node's id.
    from_all
        Whether each peer takes from all others.
    """
    everybody = sum(peers_of.values())
    needs = {
        node: parcel * (peers + (everybody if from_all else peers))
        for node, peers in peers_of.items()
        if store_of.get(node)
    }
    if not needs:
        return None
    tightest = max(needs, key=lambda node: needs[node] / store_of[node])
    need, store = needs[tightest], store_of[tightest]
    if need <= store:
        return None
    return (
        f"look: an exchange may take {need / MB:.0f} MB of a node's object store, which has "
        f"{store / MB:.0f} MB; the rest goes through the disk, many times slower. Give it more: "
        f"{REMEDY}"
    )
