"""Pieces of work as Ray tasks, as many at a time as the cluster has room for."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Self, TypeVar

import ray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from peercollab.actors.connection import connect
from peercollab.actors.feasibility import peers_on
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.placement import room_for_one
from peercollab.actors.ray_peers import get
from peercollab.errors import PeercollabError

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS_BETWEEN_LOOKS = 0.5

# A process has to be started on each node.
SECONDS_TO_ANSWER = 120.0

# Of a piece of work whose process dies, for want of memory perhaps.
RETRIES = 3


class RayPool:
    """Every piece has a process of its own, and the cores and GPUs of one peer.

    Ray is started, or joined, when there is a piece to be done.

    Parameters
    ----------
    options
        The cluster to join, without an address Ray is started here; and what a piece needs.
    threads
        CPU threads of a piece.
    shared
        What all pieces of work read; put into the object store once.
    """

    has_own_processes = True

    def __init__(self, options: ExecutionOptions, threads: int, shared: Any) -> None:
        self._options, self._threads, self._shared = options, threads, shared
        self._leave: Callable[[], None] = lambda: None
        self._pending: dict[ObjectRef, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for answer in self._pending:
            ray.cancel(answer, force=True)
        self._leave()

    def each(
        self,
        work: Callable[[Item, Any], Result],
        items: Sequence[Item],
        watch: Callable[[], None],
    ) -> Iterator[tuple[Item, Result | PeercollabError]]:
        """As said of `Pool`.

        Raises
        ------
        PeercollabError
            Ray cannot be reached, or has no room for a single piece.
        """
        if not items:
            return
        do = self._started
        self._pending = {do(work, item): item for item in items}
        while self._pending:
            done, _ = ray.wait(list(self._pending), timeout=SECONDS_BETWEEN_LOOKS)
            watch()
            for answer in done:
                yield self._pending.pop(answer), _result(answer)

    def everywhere(self, work: Callable[[Item], Result], item: Item) -> list[tuple[str, Result]]:
        """As said of `Pool`: on every node that has what a piece needs, whatever else it does.

        Raises
        ------
        PeercollabError
            Ray cannot be reached, or has no room for a single piece; or nodes do not answer.
        """
        _ = self._started
        bundle = room_for_one(self._options, self._threads)
        nodes = [
            node for node in ray.nodes() if node["Alive"] and peers_on(node["Resources"], bundle)
        ]
        names = [node["NodeManagerHostname"] for node in nodes]
        strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        answers = [
            ray.remote(num_cpus=0, scheduling_strategy=strategy)(work).remote(item)
            for strategy in strategies
        ]
        silent = ray.wait(answers, num_returns=len(answers), timeout=SECONDS_TO_ANSWER)[1]
        if silent:
            those = ", ".join(name for name, of in zip(names, answers, strict=True) if of in silent)
            raise PeercollabError(
                f"no answer from {those} within {SECONDS_TO_ANSWER:g} s: `ray status` says whether "
                "all nodes are well; end those that are not, and give the same command again"
            )
        return list(zip(names, get(answers, "a look at every node"), strict=True))

    @cached_property
    def _started(self) -> Callable[..., ObjectRef]:
        """Asks for a piece to be done, of a cluster that is there."""
        self._leave = connect(self._options)
        bundle = room_for_one(self._options, self._threads)
        shared = ray.put(self._shared)
        # After each piece its process ends: the next has its own memory to be measured, and no
        # GPU memory is kept.
        task = ray.remote(
            num_cpus=bundle["CPU"],
            num_gpus=bundle.get("GPU", 0),
            max_calls=1,
            max_retries=RETRIES,
        )(_do)
        return lambda work, item: task.remote(work, item, shared)


def _do(work: Callable[[Any, Any], Any], item: Any, shared: Any) -> Any:
    return work(item, shared)


def _result(answer: ObjectRef) -> Any:
    try:
        return ray.get(answer)
    except RayTaskError as error:
        return PeercollabError(f"it failed: {type(error.cause).__name__}: {error.cause}")
    except RayError as error:
        lines = str(error).strip().splitlines()
        return PeercollabError(f"its process died {RETRIES + 1} times: {lines[-1].strip()}")
