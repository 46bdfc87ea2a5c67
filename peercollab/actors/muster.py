"""Which peers of a run are there: those that were lost come back, or stay away, and why."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayError

SECONDS_BETWEEN_LOOKS = 0.25


class Muster:
    """The peers of a run, counted from 0.

    Parameters
    ----------
    make
        Makes the actor of a peer.
    size
        How many there are.

    Attributes
    ----------
    handles
        The actors; one that Ray gave up is replaced by another.
    away
        Peers that were lost and take no part.
    """

    def __init__(self, make: Callable[[int], ActorHandle], size: int) -> None:
        self._make = make
        self.handles = [make(place) for place in range(size)]
        self.away: set[int] = set()
        self._why: dict[int, str] = {}

    @property
    def present(self) -> list[int]:
        """Those that take part, ascending."""
        return [place for place in range(len(self.handles)) if place not in self.away]

    def why_away(self, places: Iterable[int]) -> str:
        """What is known of why these are not back: the end of a sentence, or nothing."""
        known = dict.fromkeys(self._why[place] for place in places if place in self._why)
        return f" ({'; '.join(known)})" if known else ""

    def await_return(self, proof: Path, seconds: float) -> None:
        """Wait until all are there and have given up their work; after so long the rest is away.

        Parameters
        ----------
        proof
            A file that a peer must see as it is seen here to be of use.
        seconds
            How long those are waited for that took part until now.
        """
        deadline = time.monotonic() + seconds
        missing = set(self.present)
        while True:
            # One that was away before may have come back in the meantime.
            back = self._back({*missing, *self.away}, proof)
            self.away -= back
            missing -= back
            if not missing or time.monotonic() > deadline:
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self.away |= missing

    def take_back(self, proof: Path) -> list[int]:
        """Those that were away and are there again, ascending: from now on they take part."""
        back = self._back(self.away, proof)
        self.away -= back
        return sorted(back)

    def _back(self, places: Iterable[int], proof: Path) -> set[int]:
        """Those of some peers that are there, gave up what they were at, and see the file."""
        asked = {place: self._ask(place, proof) for place in places}
        if not asked:
            return set()
        answers = [answer for pair in asked.values() for answer in pair]
        answered, _ = ray.wait(answers, num_returns=len(answers), timeout=SECONDS_BETWEEN_LOOKS)
        expected = proof.read_text(encoding="utf-8")
        back = set()
        for place, pair in asked.items():
            if not set(pair) <= set(answered):
                continue
            try:
                _, seen = ray.get(list(pair))
            except RayError as error:
                self._note_death(place, error)
                continue
            if seen == expected:
                back.add(place)
                self._why.pop(place, None)
            else:
                self._why[place] = f"it does not see {proof.parent} as it is seen here"
        return back

    def _ask(self, place: int, proof: Path) -> tuple[ray.ObjectRef, ray.ObjectRef]:
        peer = self.handles[place]
        return (
            peer.halt.options(concurrency_group="control").remote(),
            peer.read.options(concurrency_group="control").remote(proof),
        )

    def _note_death(self, place: int, error: RayError) -> None:
        # Ray makes an actor again whose process died, and gives one up that could not be made.
        if isinstance(error, ActorDiedError):
            self._why[place] = str(error).strip().splitlines()[-1].strip()
            self.handles[place] = self._make(place)
