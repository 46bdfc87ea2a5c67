"""What every actor of a run is: it returns after its death, and then knows nothing of the run."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import ray

from peercollab.actors.lines import keep_lines
from peercollab.errors import FaultError, LostError, PeercollabError

T = TypeVar("T")


class Returning:
    """An actor that Ray makes again after its death, and that then knows nothing of the run.

    Attributes
    ----------
    term
        How often the run has been taken back to a checkpoint, so far as it knows; None until it
        is told how the run stands, if it was made again.
    """

    def __init__(self, called: str) -> None:
        self.called = called
        # Ray itself warns that what this calls is deprecated: that is not for the driver.
        is_new_again = ray.get_runtime_context().was_current_actor_reconstructed
        self._lines = keep_lines()
        self.term: int | None = None if is_new_again else 0

    def __repr__(self) -> str:
        return self.called

    def lines(self) -> list[str]:
        """What was printed here since this was asked for the last time."""
        return self._lines.take()

    def whereabouts(self) -> str:
        """Where in the run it is, for messages that say what went wrong."""
        return ""

    def require(self, term: int) -> None:
        """Refuse a call that goes on from what this actor does not know, or no longer.

        Raises
        ------
        LostError
            It was made again since, or the call comes from before the run was taken back.
        """
        if self.term is None:
            raise LostError(f"{self.called} died between two calls, and was made again")
        if term != self.term:
            raise LostError(f"{self.called} was asked for something before the run was taken back")


def in_its_term(names: Iterable[str]) -> Callable[[type[T]], type[T]]:
    """Have these methods of an actor's class take the term that the call belongs to.

    What they raise that is no error of ours is told with the actor's name and whereabouts.
    """

    def guarded(kind: type[T]) -> type[T]:
        for name in names:
            setattr(kind, name, _guarded(getattr(kind, name)))
        return kind

    return guarded


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    # Ray checks calls by the method's signature, so this one must not pass for the other's.
    def call(self: Any, *arguments: Any, term: int) -> Any:
        self.require(term)
        try:
            return method(self, *arguments)
        except PeercollabError:
            raise
        except Exception as error:
            # Torch tells what went wrong in the first line, and where in its own code in more.
            reason = (str(error).splitlines() or [""])[0]
            what, kind = f"{self.called} failed in {method.__name__}", type(error).__name__
            raise FaultError(
                f"{what}{self.whereabouts()}: {kind}: {reason}", f"{what}: {kind}"
            ) from error

    return call
