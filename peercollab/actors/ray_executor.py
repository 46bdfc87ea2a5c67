"""Peers and coordinator as Ray actors; `ray.remote` is applied here and nowhere else.

The driver owns all of them: were the peers the coordinator's, they would die with it.
"""

import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import ray
from ray import ObjectRef, cloudpickle
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from peercollab.actors.connection import connect
from peercollab.actors.coordinator import Coordinator
from peercollab.actors.executor import Watch, local_device
from peercollab.actors.messages import Best, LayerArrays, PeerSetup, SharedSetup, Soup
from peercollab.actors.metrics import RunMetrics
from peercollab.actors.muster import Muster
from peercollab.actors.object_store import warn_of_small_stores
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.peer import Peer
from peercollab.actors.placement import reserve
from peercollab.actors.printed import Printed
from peercollab.actors.ray_peers import CALLS_OF_A_TERM, RayPeers, get, names_of
from peercollab.actors.record import RoundRecord
from peercollab.actors.returning import Returning, in_its_term
from peercollab.actors.vigil import Vigil
from peercollab.data.sequences import Histories, Int32Array
from peercollab.data.split import HoldOut
from peercollab.errors import LostError, PeercollabError
from peercollab.results.checkpoint import Digests

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_TO_START = 300.0


@in_its_term(CALLS_OF_A_TERM | {"rank_selected"})
class PeerActor(Returning, Peer):
    """A peer that takes the device Ray gave it."""

    def __init__(self, own: PeerSetup, shared: SharedSetup, histories: bytes, wanted: str) -> None:
        Returning.__init__(self, f"peer {own.number}")
        try:
            # Ray shows an actor only its own GPUs, so the first is the right one; where GPUs are
            # promised by hand on a machine without any, auto falls back to the CPU.
            device = local_device(wanted, 0)
        except PeercollabError as error:
            raise PeercollabError(
                f"peer {own.number} on {socket.gethostname()}: {error}"
            ) from error
        Peer.__init__(self, own, shared, ray.get(cloudpickle.loads(histories)), device)

    def whereabouts(self) -> str:
        now = self.progress()
        step = f" after step {now.step} of {now.steps}" if now.phase == "train" else ""
        return f", round {now.round}{step}"

    def restore_for(self, term: int, folder: Path) -> int:
        """Begin a term of the run with `restore`."""
        round = self.restore(folder)
        self.term = term
        return round


@in_its_term(("run_round", "checkpoint", "finish"))
class CoordinatorActor(Returning, Coordinator):
    """A coordinator whose peers are actors."""

    def __init__(self, handles: bytes, shared: SharedSetup, patience: float) -> None:
        Returning.__init__(self, "the coordinator")
        self._ray_peers = RayPeers(cloudpickle.loads(handles), patience)
        if self.term is None:
            # Whom it can ask it will be told with `restore_for`.
            self._ray_peers.present = ()
        Coordinator.__init__(self, self._ray_peers, shared.transplant, shared.training)

    def progress(self) -> None:
        """Says no more than that it is there."""

    def restore_for(
        self, term: int, handles: bytes, folder: Path, best: Best | None, present: Sequence[int]
    ) -> None:
        """Begin a term of the run with `restore`."""
        self._ray_peers.meet(cloudpickle.loads(handles))
        self._ray_peers.term = term
        self.restore(folder, best, present)
        self.term = term


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
        self._made: list[ActorHandle] = []
        self._term = 0
        self._leave = connect(options)
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
        warn_of_small_stores(self._group, shared, histories)
        # An actor that is made again reads its arguments again. Pickled here, what they refer to
        # stays; among plain arguments Ray warns that it may not.
        self._histories = ray.put(histories)
        where = cloudpickle.dumps(self._histories)
        run = shared.best.parent.name
        self._metrics = RunMetrics(run)
        # So that no two of a cluster have the same, those of an earlier run here included.
        unique = secrets.token_hex(3)
        peer_class = ray.remote(concurrency_groups={"control": 1})(PeerActor)

        def make(place: int) -> ActorHandle:
            own = peers[place]
            handle = peer_class.options(
                # One that Ray gave up keeps its name from the one that is made in its stead.
                name=f"{run} {unique}-{len(self._made)}: peer {own.number}",
                num_cpus=bundle["CPU"],
                num_gpus=bundle.get("GPU", 0),
                max_restarts=-1,
                max_task_retries=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self._group, placement_group_bundle_index=place
                ),
            ).remote(own, shared, where, options.device if "GPU" in bundle else "cpu")
            self._made.append(handle)
            return handle

        self._muster = Muster(make, len(peers))
        self._coordinator = (
            ray.remote(concurrency_groups={"control": 1})(CoordinatorActor)
            .options(
                name=f"{run} {unique}: coordinator",
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=0,
            )
            .remote(cloudpickle.dumps(self._muster.handles), shared, options.peer_timeout)
        )
        self._made.append(self._coordinator)
        self._printed = Printed(lambda: self._actors_of(range(len(peers))))
        get(
            [self._coordinator.__ray_ready__.remote()],
            "the start of the peers",
            SECONDS_TO_START,
            self._names,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What goes wrong in here must not hide what the run ended with.
        with suppress(RayError):
            self._printed.drain(SECONDS_BETWEEN_LOOKS)
        self._clean_up()

    def numbers(self) -> str:
        (numbers,) = get(
            [self._muster.handles[0].numbers.remote()],
            "the numbers of peer 1",
            SECONDS_TO_START,
            self._names,
        )
        return str(numbers)

    @property
    def away(self) -> list[int]:
        return sorted(self._muster.away)

    @property
    def _names(self) -> dict[str, str]:
        """What actors are called, by their ids: those of now, as a peer may have been replaced."""
        return names_of(self._actors_of(range(len(self._muster.handles))))

    def run_round(self, round: int, watch: Watch) -> RoundRecord:
        asked = self._coordinator.run_round.remote(round, term=self._term)
        try:
            record: RoundRecord = self._await(asked, f"round {round}", watch)
        finally:
            self._printed.drain(SECONDS_BETWEEN_LOOKS)
        self._metrics.tell(record)
        return record

    def read(self, path: Path) -> list[str | None]:
        answers = [peer.read.remote(path) for peer in self._muster.handles]
        return get(answers, "the look into the run's folder", SECONDS_TO_START, self._names)

    def checkpoint(self, folder: Path) -> Digests:
        asked = self._coordinator.checkpoint.remote(folder, term=self._term)
        return dict(self._await(asked, f"the checkpoint {folder}"))

    def restore(self, folder: Path, best: Best | None) -> None:
        self._term += 1
        handles = cloudpickle.dumps(self._muster.handles)
        asked = self._coordinator.restore_for.remote(
            self._term, handles, folder, best, self._muster.present
        )
        self._await(asked, f"the return to checkpoint {folder}")

    def finish(self) -> Soup | None:
        asked = self._coordinator.finish.remote(term=self._term)
        soup: Soup | None = self._await(asked, "the end of the rounds")
        return soup

    def rank_selected(self, hold_out: HoldOut) -> Int32Array:
        peer = self._muster.handles[self._muster.present[0]]
        asked = peer.rank_selected.remote(hold_out, term=self._term)
        return np.array(self._await(asked, f"ranking of {hold_out}"))

    def weights(self, peer: int) -> LayerArrays:
        (arrays,) = get(
            [self._muster.handles[peer].weights.remote()],
            f"the weights of peer {peer + 1}",
            SECONDS_TO_START,
            self._names,
        )
        return {name: np.array(array) for name, array in arrays.items()}

    def await_return(self, proof: Path) -> str:
        self._metrics.tell_loss()
        patience = self._options.rejoin_within
        deadline = time.monotonic() + patience
        before = set(self._muster.away)
        self._muster.await_return(proof, patience)
        self._await_coordinator(deadline)
        return self._muster.why_away(self._muster.away - before)

    def take_back(self, proof: Path) -> list[int]:
        return self._muster.take_back(proof)

    def _await(self, answer: ObjectRef, awaited: str, watch: Watch | None = None) -> Any:
        """What an actor answers. All are looked after meanwhile: who comes to a stand is ended."""
        patience = self._options.peer_timeout
        actors = self._actors_of(self._muster.present)
        vigil = Vigil(actors)
        ended: list[str] = []
        while not ray.wait([answer], timeout=SECONDS_BETWEEN_LOOKS)[0]:
            progress = vigil.look(SECONDS_BETWEEN_LOOKS)
            if watch is not None:
                watch(progress)
            self._printed.show()
            if not ended and (ended := vigil.still(patience)):
                for name in ended:
                    ray.kill(actors[name], no_restart=False)
        try:
            (value,) = get([answer], awaited, names=self._names)
        except LostError as error:
            if not ended:
                raise
            raise LostError(
                f"{' and '.join(ended)} made no progress for {patience:g} s (--peer-timeout): "
                "ended, to be made again"
            ) from error
        return value

    def _actors_of(self, places: Iterable[int]) -> dict[str, ActorHandle]:
        """Some peers and the coordinator, by what they are called."""
        peers = {f"peer {place + 1}": self._muster.handles[place] for place in places}
        return {**peers, "the coordinator": self._coordinator}

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

    def _clean_up(self) -> None:
        for actor in self._made:
            ray.kill(actor)
        self._made.clear()
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None
        self._leave()
