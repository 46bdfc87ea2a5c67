"""Peers and coordinator as Ray actors; `ray.remote` is applied here and nowhere else.

The driver owns all of them: were the peers the coordinator's, they would die with it.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import numpy as np
import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from peercollab.actors.connection import connect
from peercollab.actors.coordinator import Coordinator
from peercollab.actors.executor import Watch, local_device
from peercollab.actors.messages import LayerArrays, PeerSetup, SharedSetup, Soup
from peercollab.actors.object_store import warn_of_small_stores
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.peer import Peer
from peercollab.actors.placement import reserve
from peercollab.actors.ray_peers import RayPeers, get, names_of
from peercollab.actors.record import RoundRecord
from peercollab.data.sequences import Histories, Int32Array
from peercollab.data.split import HoldOut

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_TO_START = 300.0


class PeerActor(Peer):
    """A peer that takes the device Ray gave it."""

    def __init__(
        self, own: PeerSetup, shared: SharedSetup, histories: Histories, has_gpu: bool
    ) -> None:
        # Ray shows an actor only its own GPUs, so the first is the right one; where GPUs are
        # promised by hand on a machine without any, the peer falls back to the CPU.
        super().__init__(own, shared, histories, local_device("auto" if has_gpu else "cpu", 0))


class CoordinatorActor(Coordinator):
    """A coordinator whose peers are actors."""

    def __init__(self, handles: Sequence[ActorHandle], shared: SharedSetup) -> None:
        super().__init__(RayPeers(handles), shared.transplant, shared.training)


class RayExecutor:
    """An actor for every peer, each in its own bundle, and one for the coordinator.

    Parameters
    ----------
    options
        Peers, devices, and the cluster to join; without an address Ray is started here.
    peers, shared, histories
        What the peers are made of. The histories are put into the object store once.

    Raises
    ------
    PeercollabError
        Ray cannot be reached, or has no place for the peers.
    """

    def __init__(
        self,
        options: ExecutionOptions,
        peers: Sequence[PeerSetup],
        shared: SharedSetup,
        histories: Histories,
    ) -> None:
        self._group: PlacementGroup | None = None
        self._actors: list[ActorHandle] = []
        self._owns_ray = connect(options)
        try:
            self._start(options, peers, shared, histories)
        except BaseException:
            self._clean_up()
            raise

    def _start(
        self,
        options: ExecutionOptions,
        peers: Sequence[PeerSetup],
        shared: SharedSetup,
        histories: Histories,
    ) -> None:
        self._group, bundle = reserve(options, len(peers), shared.threads)
        warn_of_small_stores(self._group, shared, histories.n_items)
        in_store = ray.put(histories)
        peer_class = ray.remote(concurrency_groups={"control": 1})(PeerActor)
        for place, own in enumerate(peers):
            handle = peer_class.options(
                num_cpus=bundle["CPU"],
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self._group, placement_group_bundle_index=place
                ),
            ).remote(own, shared, in_store, "GPU" in bundle)
            self._actors.append(handle)
        self._peers = list(self._actors)
        self._coordinator = (
            ray.remote(CoordinatorActor).options(num_cpus=0).remote(self._peers, shared)
        )
        self._actors.append(self._coordinator)
        self._names = names_of({"the coordinator": self._coordinator})
        get(
            [self._coordinator.__ray_ready__.remote()],
            "the start of the peers",
            SECONDS_TO_START,
            self._names,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up()

    def numbers(self) -> str:
        (numbers,) = get(
            [self._peers[0].numbers.remote()],
            "the numbers of peer 1",
            SECONDS_TO_START,
            self._names,
        )
        return str(numbers)

    def run_round(self, round: int, watch: Watch) -> RoundRecord:
        answer = self._coordinator.run_round.remote(round)
        while not ray.wait([answer], timeout=SECONDS_BETWEEN_LOOKS)[0]:
            self._look(watch)
        (record,) = get([answer], f"round {round}", names=self._names)
        return record

    def finish(self) -> Soup | None:
        (soup,) = get(
            [self._coordinator.finish.remote()], "the end of the rounds", None, self._names
        )
        return soup

    def rank_selected(self, hold_out: HoldOut) -> Int32Array:
        (ranks,) = get([self._peers[0].rank_selected.remote(hold_out)], f"ranking of {hold_out}")
        return np.array(ranks)

    def weights(self, peer: int) -> LayerArrays:
        (arrays,) = get([self._peers[peer].weights.remote()], f"the weights of peer {peer + 1}")
        return {name: np.array(array) for name, array in arrays.items()}

    def _look(self, watch: Watch) -> None:
        answers = [
            peer.progress.options(concurrency_group="control").remote() for peer in self._peers
        ]
        # A peer that does not answer now will be named by the round itself.
        with suppress(RayActorError, GetTimeoutError):
            watch(ray.get(answers, timeout=SECONDS_BETWEEN_LOOKS))

    def _clean_up(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None
        if self._owns_ray:
            ray.shutdown()
            self._owns_ray = False
