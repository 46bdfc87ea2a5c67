"""Pieces of work that know nothing of each other, and where they are done: here, one by one."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeVar

from peercollab.errors import PeercollabError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pool(Protocol):
    """Where pieces of work are done; a context that cleans up, and ends what is not done.

    Attributes
    ----------
    has_own_processes
        Whether every piece has a process to itself.
    """

    has_own_processes: bool

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def each(
        self,
        work: Callable[[Item, Any], Result],
        items: Sequence[Item],
        watch: Callable[[], None],
    ) -> Iterator[tuple[Item, Result | PeercollabError]]:
        """Do ``work(item, shared)`` for all items; each as it is done, in whatever order.

        Of a piece whose process died again and again there is an error in place of a result.
        `watch` is called now and then meanwhile.
        """

    def everywhere(self, work: Callable[[Item], Result], item: Item) -> list[tuple[str, Result]]:
        """Do something small on every machine that pieces may be done on; with its name."""


class LocalPool:
    """One piece after another in this process.

    Parameters
    ----------
    shared
        What all pieces of work read.
    """

    has_own_processes = False

    def __init__(self, shared: Any) -> None:
        self._shared = shared

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def each(
        self,
        work: Callable[[Item, Any], Result],
        items: Sequence[Item],
        watch: Callable[[], None],
    ) -> Iterator[tuple[Item, Result | PeercollabError]]:
        for item in items:
            watch()
            yield item, work(item, self._shared)

    def everywhere(self, work: Callable[[Item], Result], item: Item) -> list[tuple[str, Result]]:
        return [("this machine", work(item))]
