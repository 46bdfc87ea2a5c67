"""Peers and coordinator as Ray actors; `ray.remote` is applied here and nowhere else.

The driver owns all of them: were the peers the coordinator's, they would die with it.
"""

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import ray
from ray import cloudpickle
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from peercollab.actors.connection import connect
from peercollab.actors.coordinator import Coordinator
from peercollab.actors.executor import Watch, local_device
from peercollab.actors.messages import Best, LayerArrays, PeerSetup, SharedSetup, Soup
from peercollab.actors.object_store import warn_of_small_stores
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.peer import Peer
from peercollab.actors.placement import reserve
from peercollab.actors.ray_peers import RayPeers, get, names_of
from peercollab.actors.record import RoundRecord
from peercollab.data.sequences import Histories, Int32Array
from peercollab.data.split import HoldOut
from peercollab.errors import LostError, PeercollabError
from peercollab.results.checkpoint import Digests

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_TO_START = 300.0


class _Returning:
    """An actor that Ray makes again after its death, and that then knows nothing of the run."""

    def __init__(self, called: str) -> None:
        self.called = called
        self.is_new_again = ray.get_runtime_context().was_current_actor_reconstructed

    def require_memory(self) -> None:
        """Refuse to act before `restore` has said how the run stands.

        Raises
        ------
        LostError
            It was made again since.
        """
        if self.is_new_again:
            raise LostError(f"{self.called} died between two calls, and was made again")


def _remembering(*names: str) -> Callable[[type[T]], type[T]]:
    """These methods of an actor's class, the calls of a run, ask for its memory first."""

    def guarded(kind: type[T]) -> type[T]:
        for name in names:
            setattr(kind, name, _guarded(getattr(kind, name)))
        return kind

    return guarded


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        self.require_memory()
        return method(self, *arguments)

    return call


@_remembering(
    "train",
    "rank",
    "save_best",
    "statistics",
    "export",
    "graft",
    "settle",
    "checkpoint",
    "ingredient",
    "soup",
    "weights",
)
class PeerActor(_Returning, Peer):
    """A peer that takes the device Ray gave it."""

    def __init__(
        self, own: PeerSetup, shared: SharedSetup, histories: bytes, has_gpu: bool
    ) -> None:
        _Returning.__init__(self, f"peer {own.number}")
        # Ray shows an actor only its own GPUs, so the first is the right one; where GPUs are
        # promised by hand on a machine without any, the peer falls back to the CPU.
        device = local_device("auto" if has_gpu else "cpu", 0)
        Peer.__init__(self, own, shared, ray.get(cloudpickle.loads(histories)), device)

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self.is_new_again = False


@_remembering("run_round", "checkpoint", "finish")
class CoordinatorActor(_Returning, Coordinator):
    """A coordinator whose peers are actors."""

    def __init__(self, handles: bytes, shared: SharedSetup) -> None:
        _Returning.__init__(self, "the coordinator")
        Coordinator.__init__(
            self, RayPeers(cloudpickle.loads(handles)), shared.transplant, shared.training
        )

    def restore(self, folder: Path, best: Best | None) -> None:
        super().restore(folder, best)
        self.is_new_again = False


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
        self._options = options
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
        # An actor that is made again reads its arguments again. Pickled here, what they refer to
        # stays; among plain arguments Ray warns that it may not.
        self._histories = ray.put(histories)
        where = cloudpickle.dumps(self._histories)
        peer_class = ray.remote(concurrency_groups={"control": 1})(PeerActor)
        for place, own in enumerate(peers):
            handle = peer_class.options(
                num_cpus=bundle["CPU"],
                num_gpus=bundle.get("GPU", 0),
                max_restarts=-1,
                max_task_retries=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self._group, placement_group_bundle_index=place
                ),
            ).remote(own, shared, where, "GPU" in bundle)
            self._actors.append(handle)
        self._peers = list(self._actors)
        self._coordinator = (
            ray.remote(CoordinatorActor)
            .options(num_cpus=0, max_restarts=-1, max_task_retries=0)
            .remote(cloudpickle.dumps(self._peers), shared)
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

    def read(self, path: Path) -> list[str | None]:
        answers = [peer.read.remote(path) for peer in self._peers]
        return get(answers, "the look into the run's folder", SECONDS_TO_START, self._names)

    def checkpoint(self, folder: Path) -> Digests:
        asked = self._coordinator.checkpoint.remote(folder)
        (files,) = get([asked], f"the checkpoint {folder}", None, self._names)
        return dict(files)

    def restore(self, folder: Path, best: Best | None) -> None:
        asked = self._coordinator.restore.remote(folder, best)
        get([asked], f"the return to checkpoint {folder}", None, self._names)

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

    def await_return(self) -> None:
        deadline = time.monotonic() + self._options.rejoin_within
        missing = {f"peer {i}": peer for i, peer in enumerate(self._peers, start=1)}
        while missing and time.monotonic() < deadline:
            asked = {
                name: peer.progress.options(concurrency_group="control").remote()
                for name, peer in missing.items()
            }
            answered, _ = ray.wait(
                list(asked.values()), num_returns=len(asked), timeout=SECONDS_BETWEEN_LOOKS
            )
            for name, answer in asked.items():
                with suppress(RayActorError, GetTimeoutError):
                    if answer in answered:
                        ray.get(answer, timeout=SECONDS_BETWEEN_LOOKS)
                        del missing[name]
            if missing:
                time.sleep(SECONDS_BETWEEN_LOOKS)
        if missing:
            raise PeercollabError(
                f"{', '.join(missing)} did not come back within --rejoin-within "
                f"{self._options.rejoin_within:g} s"
            )
        self._await_coordinator(deadline)

    def _await_coordinator(self, deadline: float) -> None:
        """It is made again when its peers are there, and then knows nothing yet."""
        while True:
            try:
                ray.get(self._coordinator.__ray_ready__.remote(), timeout=SECONDS_TO_START)
                return
            except (RayActorError, GetTimeoutError) as error:
                if time.monotonic() > deadline:
                    raise PeercollabError(
                        "the coordinator did not come back within --rejoin-within "
                        f"{self._options.rejoin_within:g} s: {error}"
                    ) from error
                time.sleep(SECONDS_BETWEEN_LOOKS)

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
