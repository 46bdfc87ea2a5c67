"""Look after a run's actors: where each peer is, and whether one has come to a stand."""

import time
from collections.abc import Mapping
from contextlib import suppress

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError

from peercollab.actors.messages import PeerProgress, Phase

# Phases in which a peer works by itself, and its progress goes on.
AT_WORK: set[Phase] = {"train", "rank"}


class Vigil:
    """Asks actors for their progress, again and again, each when it has answered the last time.

    Parameters
    ----------
    actors
        By what they are called. The coordinator answers, too, and has no progress of its own.
    """

    def __init__(self, actors: Mapping[str, ActorHandle]) -> None:
        self._actors = actors
        self._asked: dict[str, ObjectRef] = {}
        self._latest: dict[str, PeerProgress] = {}
        now = time.monotonic()
        self._answered = dict.fromkeys(actors, now)
        self._moved = dict.fromkeys(actors, now)

    def look(self, seconds: float) -> list[PeerProgress]:
        """Where the peers are, as far as is known after so many seconds at most."""
        for name, actor in self._actors.items():
            if name not in self._asked:
                control = actor.progress.options(concurrency_group="control")
                self._asked[name] = control.remote()
        asked = dict(self._asked)
        answered, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds)
        now = time.monotonic()
        for name, answer in asked.items():
            if answer in answered:
                del self._asked[name]
                # An actor that has died is named by the work that it was asked for.
                with suppress(RayError):
                    self._take_in(name, ray.get(answer), now)
        return sorted(self._latest.values(), key=lambda progress: progress.peer)

    def still(self, seconds: float) -> list[str]:
        """Actors that did not answer for so long, or did not go on with their work."""
        now = time.monotonic()
        return [
            name
            for name in self._actors
            if now - self._answered[name] > seconds
            or (self._is_at_work(name) and now - self._moved[name] > seconds)
        ]

    def _take_in(self, name: str, progress: PeerProgress | None, now: float) -> None:
        self._answered[name] = now
        if progress is None:
            return
        if _stage(progress) != _stage(self._latest.get(name)):
            self._moved[name] = now
        self._latest[name] = progress

    def _is_at_work(self, name: str) -> bool:
        latest = self._latest.get(name)
        return latest is not None and latest.phase in AT_WORK


def _stage(progress: PeerProgress | None) -> tuple[int, int, Phase] | None:
    # Not the loss: before there is any it is NaN, and unlike itself.
    return None if progress is None else (progress.round, progress.step, progress.phase)
