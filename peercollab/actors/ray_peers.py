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
    RayError,
    RayTaskError,
)

from peercollab.actors.messages import PeerReport, Soup
from peercollab.actors.object_store import REMEDY
from peercollab.errors import LostError, PeercollabError
from peercollab.results.checkpoint import Digests
from peercollab.transplant.grafting import Graft
from peercollab.transplant.layers import LayerMap
from peercollab.transplant.plan import LayerStatistics, TransplantPlan
from peercollab.transplant.rules.rule import Select

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

    A peer that hangs in a phase other than training and ranking is ended, to be made again by Ray.

    Parameters
    ----------
    handles
        The actors.
    patience
        Seconds that such a phase may take (``--peer-timeout``).

    Attributes
    ----------
    term
        Counts how often the run was taken back to a checkpoint. Peers refuse calls of another
        term: what a coordinator asked for before it died may come after the return.
    bytes_handled
        Bytes of all that was sent to the peers from here and all that was read of their answers.
    """

    def __init__(self, handles: Sequence[ActorHandle], patience: float) -> None:
        self.meet(handles)
        self._patience = patience
        self.present: Sequence[int] = range(len(handles))
        self.term = 0
        self.bytes_handled = 0

    def meet(self, handles: Sequence[ActorHandle]) -> None:
        """Ask these actors from now on: one that Ray gave up may have been replaced."""
        self._handles = handles
        self._names = names_of({f"peer {i}": handle for i, handle in enumerate(handles, 1)})

    @property
    def size(self) -> int:
        return len(self._handles)

    def layers(self) -> dict[int, LayerMap]:
        return self._ask_all("layers")

    def steps(self) -> int:
        return int(self._ask_one(self.present[0], "steps"))

    def train(self, round: int, stop: int) -> dict[int, str | None]:
        return self._ask_all("train", round, stop, bounded=False)

    def rank(self, round: int) -> dict[int, PeerReport]:
        return self._ask_all("rank", round, bounded=False)

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
        donors = [(request.donor, answer) for request, answer in exports.items()]
        return self._get(plan.receivers, grafts, "transplant", needs=donors)

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
        soup: Soup = self._ask_one(first, "soup", select, *ingredients, bounded=False)
        return soup

    def _ask_one(self, peer: int, method: str, *arguments: Any, bounded: bool = True) -> Any:
        asked = [self._ask(peer, method, *arguments)]
        (answer,) = self._get([peer], asked, method, bounded=bounded)
        return answer

    def _ask_all(self, method: str, *arguments: Any, bounded: bool = True) -> dict[int, Any]:
        answers = [self._ask(peer, method, *arguments) for peer in self.present]
        values = self._get(self.present, answers, method, bounded=bounded)
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
        *,
        needs: Sequence[tuple[int, ObjectRef]] = (),
        bounded: bool = True,
    ) -> list[Any]:
        seconds = self._patience if bounded else None
        try:
            values = get(answers, f"the peers' {phase}", seconds, self._names)
        except LostError as error:
            if not isinstance(error.__cause__, GetTimeoutError):
                raise
            # Who waits for one that hangs does not hang itself.
            if not self._end_silent(needs):
                self._end_silent(list(zip(peers, answers, strict=True)))
            raise LostError(f"{error} (--peer-timeout)") from error
        self.bytes_handled += sum(len(cloudpickle.dumps(value)) for value in values)
        return values

    def _end_silent(self, asked: Sequence[tuple[int, ObjectRef]]) -> bool:
        """End peers that hang, as what they are asked next would wait; whether there were any."""
        answers = [answer for _, answer in asked]
        silent = ray.wait(answers, num_returns=len(answers), timeout=0)[1] if answers else []
        for peer, answer in asked:
            if answer in silent:
                ray.kill(self._handles[peer], no_restart=False)
        return bool(silent)


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
        if isinstance(error.cause, RayError):
            # What one was to read was lost with another's node.
            raise LostError(f"{awaited} came to nothing: {_first_line(error.cause)}") from error
        raise PeercollabError(
            f"{awaited} failed: {type(error.cause).__name__}: {error.cause}"
        ) from error
    except RayError as error:
        raise LostError(f"{awaited} came to nothing: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
