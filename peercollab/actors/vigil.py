"""Look after peers while they work: where each is, and whether one has come to a stand."""

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
    """Asks peers for their progress, again and again, each when it has answered the last time.

    Parameters
    ----------
    peers
        Handles by place, from 0.
    """

    def __init__(self, peers: Mapping[int, ActorHandle]) -> None:
        self._peers = peers
        self._asked: dict[int, ObjectRef] = {}
        self._latest: dict[int, PeerProgress] = {}
        now = time.monotonic()
        self._answered = dict.fromkeys(peers, now)
        self._moved = dict.fromkeys(peers, now)

    def look(self, seconds: float) -> list[PeerProgress]:
        """Where the peers are, as far as is known after so many seconds at most."""
        for place, peer in self._peers.items():
            if place not in self._asked:
                control = peer.progress.options(concurrency_group="control")
                self._asked[place] = control.remote()
        asked = dict(self._asked)
        answered, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds)
        now = time.monotonic()
        for place, answer in asked.items():
            if answer in answered:
                del self._asked[place]
                # A peer that has died is named by the work that it was asked for.
                with suppress(RayError):
                    self._take_in(place, ray.get(answer), now)
        return [self._latest[place] for place in sorted(self._latest)]

    def still(self, seconds: float) -> list[int]:
        """Peers that did not answer for so long, or did not go on with their work."""
        now = time.monotonic()
        return [
            place
            for place in self._peers
            if now - self._answered[place] > seconds
            or (self._is_at_work(place) and now - self._moved[place] > seconds)
        ]

    def _take_in(self, place: int, progress: PeerProgress, now: float) -> None:
        self._answered[place] = now
        if _stage(progress) != _stage(self._latest.get(place)):
            self._moved[place] = now
        self._latest[place] = progress

    def _is_at_work(self, place: int) -> bool:
        latest = self._latest.get(place)
        return latest is not None and latest.phase in AT_WORK


def _stage(progress: PeerProgress | None) -> tuple[int, int, Phase] | None:
    # Not the loss: before there is any it is NaN, and unlike itself.
    return None if progress is None else (progress.round, progress.step, progress.phase)
