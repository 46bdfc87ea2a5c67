"""Show what actors print in their own processes, once, with the actor's name before each line."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError


class Printed:
    """Fetches what actors print, each when it has answered the last time.

    Parameters
    ----------
    actors
        Gives them, by what they are called: one that is made anew is another.
    """

    def __init__(self, actors: Callable[[], Mapping[str, ActorHandle]]) -> None:
        self._actors = actors
        self._asked: dict[str, ObjectRef] = {}

    def show(self) -> None:
        """Print on stderr what has come by now."""
        self._look(0.0)

    def drain(self, seconds: float) -> None:
        """Print all that was printed before this, if the actors answer within so many seconds."""
        # What they were asked before may have been answered before they printed.
        for _ in range(2):
            self._look(seconds)

    def _look(self, seconds: float) -> None:
        for name, actor in self._actors().items():
            if name not in self._asked:
                self._asked[name] = actor.lines.options(concurrency_group="control").remote()
        asked = dict(self._asked)
        answered, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds)
        for name, answer in asked.items():
            if answer in answered:
                del self._asked[name]
                with suppress(RayError):
                    for line in ray.get(answer):
                        print(f"{name}: {line}", file=sys.stderr, flush=True)
