"""Peers that are Ray actors, as the coordinator actor sees them.

Weights never pass through here: an export is asked of the donor, and the reference to its
result is handed to the receiver, which reads it from the object store.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import ObjectRef, cloudpickle
from ray.actor import ActorHandle
from ray.exceptions import (
    GetTimeoutError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayActorError,
    RayTaskError,
)

from peercollab.actors.messages import Graft, PeerReport, Soup
from peercollab.actors.object_store import REMEDY
from peercollab.errors import LostError, PeercollabError
from peercollab.results.checkpoint import Digests
from peercollab.transplant.layers import LayerMap
from peercollab.transplant.plan import LayerStatistics, TransplantPlan
from peercollab.transplant.rules.rule import Select

# Phases other than training and ranking take seconds; one that takes this long will not end.
SECONDS_OF_A_PHASE = 300.0

# Calls that go on from what was called before, and so belong to one term of the run.
CALLS_OF_A_TERM = frozenset(
    {
        "train",
        "rank",
        "save_best",
        "statistics",
        "export",
        "graft",
        "settle",
        "checkpoint",
        "follow",
        "ingredient",
        "soup",
    }
)


class RayPeers:
    """A `PeerGroup` over actor handles.

    A peer that hangs in a phase that should take seconds is ended, to be made again by Ray.

    Attributes
    ----------
    term
        Counts how often the run was taken back to a checkpoint. Peers refuse calls of another
        term: what a coordinator asked for before it died may come after the return.
    bytes_handled
        Bytes of all that was sent to the peers from here and all that was read of their answers.
    """

    def __init__(self, handles: Sequence[ActorHandle]) -> None:
        self._handles = handles
        self._names = names_of({f"peer {i}": handle for i, handle in enumerate(handles, 1)})
        self.present: Sequence[int] = range(len(handles))
        self.term = 0
        self.bytes_handled = 0

    @property
    def size(self) -> int:
        return len(self._handles)

    def layers(self) -> dict[int, LayerMap]:
        return self._ask_all("layers")

    def steps(self) -> int:
        return int(self._ask_one(self.present[0], "steps"))

    def train(self, round: int, stop: int) -> dict[int, str | None]:
        return self._ask_all("train", round, stop, seconds=None)

    def rank(self, round: int) -> dict[int, PeerReport]:
        return self._ask_all("rank", round, seconds=None)

    def save_best(self, peer: int) -> None:
        self._ask_one(peer, "save_best")

    def statistics(self, peers: Sequence[int], layers: Sequence[str]) -> list[LayerStatistics]:
        answers = [self._ask(peer, "statistics", layers) for peer in peers]
        return self._get(peers, answers, "statistics")

    def transplant(self, plan: TransplantPlan) -> list[Graft]:
        # A peer does what it is asked in the order of asking. So every export is submitted
        # before any graft, and reads the weights as they were before the exchange.
        exports = {
            request: self._ask(request.donor, "export", request) for request in plan.requests()
        }
        grafts = [
            self._ask(
                part.receivers[0],
                "graft",
                part,
                *(exports[plan.request(transfer)] for transfer in part.transfers),
            )
            for part in map(plan.of, plan.receivers)
        ]
        return self._get(plan.receivers, grafts, "transplant")

    def settle(self) -> None:
        self._ask_all("settle")

    def checkpoint(self, folder: Path) -> Digests:
        files: Digests = {}
        for own in self._ask_all("checkpoint", folder).values():
            files |= own
        return files

    def restore(self, folder: Path) -> dict[int, int]:
        return self._ask_all("restore_for", self.term, folder)

    def follow(self, peers: Sequence[int], folder: Path, leader: int) -> None:
        answers = [self._ask(peer, "follow", folder, leader + 1) for peer in peers]
        self._get(peers, answers, "follow")

    def soup(self, select: Select) -> Soup:
        first = self.present[0]
        ingredients = [self._ask(peer, "ingredient") for peer in self.present]
        soup: Soup = self._ask_one(first, "soup", select, *ingredients, seconds=None)
        return soup

    def _ask_one(
        self, peer: int, method: str, *arguments: Any, seconds: float | None = SECONDS_OF_A_PHASE
    ) -> Any:
        (answer,) = self._get([peer], [self._ask(peer, method, *arguments)], method, seconds)
        return answer

    def _ask_all(
        self, method: str, *arguments: Any, seconds: float | None = SECONDS_OF_A_PHASE
    ) -> dict[int, Any]:
        answers = [self._ask(peer, method, *arguments) for peer in self.present]
        values = self._get(self.present, answers, method, seconds)
        return dict(zip(self.present, values, strict=True))

    def _ask(self, peer: int, method: str, *arguments: Any) -> ObjectRef:
        # References are left out: pickled outside a call, they would keep their objects alive.
        sent = [value for value in arguments if not isinstance(value, ObjectRef)]
        self.bytes_handled += len(cloudpickle.dumps(sent))
        call = getattr(self._handles[peer], method)
        if method in CALLS_OF_A_TERM:
            return call.remote(*arguments, term=self.term)
        return call.remote(*arguments)

    def _get(
        self,
        peers: Sequence[int],
        answers: list[ObjectRef],
        phase: str,
        seconds: float | None = SECONDS_OF_A_PHASE,
    ) -> list[Any]:
        try:
            values = get(answers, f"the peers' {phase}", seconds, self._names)
        except LostError as error:
            if isinstance(error.__cause__, GetTimeoutError):
                self._end_silent(peers, answers)
            raise
        self.bytes_handled += sum(len(cloudpickle.dumps(value)) for value in values)
        return values

    def _end_silent(self, peers: Sequence[int], answers: list[ObjectRef]) -> None:
        """End peers that hang: whatever they are asked next would wait behind what they hang in."""
        _, silent = ray.wait(answers, num_returns=len(answers), timeout=0)
        for peer, answer in zip(peers, answers, strict=True):
            if answer in silent:
                ray.kill(self._handles[peer], no_restart=False)


def names_of(actors: Mapping[str, ActorHandle]) -> dict[str, str]:
    """The name of each actor by the id that Ray's errors give."""
    return {handle._actor_id.hex(): name for name, handle in actors.items()}


def get(
    answers: list[ObjectRef],
    awaited: str,
    seconds: float | None = None,
    names: Mapping[str, str] | None = None,
) -> list[Any]:
    """The values of references, with Ray's failures told in our words.

    Parameters
    ----------
    answers
        What to wait for.
    awaited
        What that is, for the message.
    seconds
        How long to wait at most.
    names
        What actors are called, by their id.

    Raises
    ------
    PeercollabError
        An actor raised, or could not be made; an error that it raised in these words already is
        passed on.
    LostError
        An actor died, or did not answer in time.
    """
    try:
        return ray.get(answers, timeout=seconds)
    except RayActorError as error:
        # The last line of Ray's long account is the exception that its __init__ raised, ours
        # perhaps, or the way its process ended.
        reason = str(error).strip().splitlines()[-1].strip()
        _, ours, message = reason.rpartition(f"{PeercollabError.__name__}: ")
        if ours:
            raise PeercollabError(message) from error
        name = (names or {}).get(error.actor_id, "an actor")
        raise LostError(f"{name} died during {awaited}: {reason}") from error
    except GetTimeoutError as error:
        raise LostError(f"no answer within {seconds:g} s from {awaited}") from error
    except RayTaskError as error:
        if isinstance(error.cause, PeercollabError):
            raise error.cause from None
        if isinstance(error, (ObjectStoreFullError, OutOfDiskError)):
            raise PeercollabError(
                f"{awaited} found no room in a node's object store, nor on the disk that Ray goes "
                f"on to when that is full. Make room on the disk, or give the store more: {REMEDY}"
            ) from error
        raise PeercollabError(
            f"{awaited} failed: {type(error.cause).__name__}: {error.cause}"
        ) from error
