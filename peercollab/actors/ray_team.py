"""Peers of `peercollab.collaborate` as Ray actors."""

from collections.abc import Sequence
from typing import Any, Self

import ray
import torch
from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from peercollab.actors.connection import connect
from peercollab.actors.network_peer import NetworkPeer, NetworkSetup
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.placement import reserve
from peercollab.actors.ray_peers import get, names_of


class NetworkActor(NetworkPeer):
    """A peer in a process of its own."""

    def __init__(self, number: int, setup: NetworkSetup) -> None:
        torch.set_num_threads(setup.threads)
        super().__init__(number, setup)


class RayTeam:
    """An actor for every peer, each in its own bundle.

    Parameters
    ----------
    options
        Peers, devices, and the cluster to join; without an address Ray is started here.
    setup
        What all peers have in common; the user's functions travel with it.

    Raises
    ------
    PeercollabError
        Ray cannot be reached, or has no place for the peers.
    """

    def __init__(self, options: ExecutionOptions, setup: NetworkSetup) -> None:
        self._group: PlacementGroup | None = None
        self._handles: list[ActorHandle] = []
        self._leave = connect(options)
        try:
            self._group, bundle = reserve(options, options.peers, setup.threads)
            common = ray.put(setup)
            actor = ray.remote(NetworkActor)
            self._handles = [
                actor.options(
                    num_cpus=bundle["CPU"],
                    num_gpus=bundle.get("GPU", 0),
                    scheduling_strategy=PlacementGroupSchedulingStrategy(
                        self._group, placement_group_bundle_index=place
                    ),
                ).remote(place + 1, common)
                for place in range(options.peers)
            ]
        except BaseException:
            self._clean_up()
            raise
        self._names = names_of({f"peer {i}": handle for i, handle in enumerate(self._handles, 1)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up()

    def ask(self, peer: int, method: str, *arguments: Any) -> Any:
        return getattr(self._handles[peer], method).remote(*arguments)

    def collect(self, answers: Sequence[Any], awaited: str) -> list[Any]:
        return get(list(answers), awaited, names=self._names)

    def _clean_up(self) -> None:
        for handle in self._handles:
            ray.kill(handle)
        if self._group is not None:
            remove_placement_group(self._group)
        self._leave()
