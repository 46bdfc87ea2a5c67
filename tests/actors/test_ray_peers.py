"""Who hangs in a phase that is asked of all is ended, and who only waits for it is not."""

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

from peercollab.actors.ray_peers import RayPeers
from peercollab.errors import LostError
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.plan import Transfer, TransplantPlan
from tests.traces import SECONDS_TO_BEGIN

pytestmark = pytest.mark.usefixtures("ray_cluster")

# In it those answer that do not hang, on a machine with other work, too.
PATIENCE = 5.0


class Stuck:
    """A peer that never comes back from one of its calls, until it is made again."""

    def __init__(self, call: str) -> None:
        self._call = call

    def statistics(self, layers: Any, *, term: int) -> dict[str, float]:
        return self._answer("statistics", {})

    def export(self, request: Any, *, term: int) -> str:
        return self._answer("export", "weights")

    def graft(self, part: Any, *parcels: Any, term: int) -> tuple[Any, ...]:
        return self._answer("graft", parcels)

    def pid(self) -> int:
        return os.getpid()

    def _answer(self, call: str, answer: Any) -> Any:
        while call == self._call:
            time.sleep(1)
        return answer


Made = Callable[..., list[Any]]


@pytest.fixture
def made() -> Iterator[Made]:
    """Makes peers that are stuck in these calls, and waits until they are there."""
    handles: list[Any] = []

    def make(*calls: str) -> list[Any]:
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(Stuck)
        handles.extend(actor.remote(call) for call in calls)
        pids(handles)
        return handles

    yield make
    for handle in handles:
        ray.kill(handle)


def pids(handles: list[Any]) -> list[int]:
    """The processes that they live in, once they are there."""
    found: list[int] = ray.get([h.pid.remote() for h in handles], timeout=SECONDS_TO_BEGIN)
    return found


def await_made_again(handle: Any, before: int) -> None:
    """Wait until one that is being ended has another process."""
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while time.monotonic() < deadline:
        try:
            (now,) = pids([handle])
        except ray.exceptions.RayActorError:
            continue
        if now != before:
            return
        time.sleep(0.1)
    raise AssertionError("it was not ended")


def swap() -> TransplantPlan:
    """Each of two peers gives the other its only layer."""
    transfers = (Transfer(0, 1, {"layer": 0.5}), Transfer(1, 0, {"layer": 0.5}))
    return TransplantPlan(Exchange(round=1, step=1), (0, 1), (0, 1), transfers)


def test_one_that_does_not_answer_is_ended(made: Made) -> None:
    handles = made("", "statistics")
    before = pids(handles)
    peers = RayPeers(handles, PATIENCE)
    expected = f"no answer within {PATIENCE:g} s from the peers' statistics (--peer-timeout)"
    with pytest.raises(LostError, match=re.escape(expected)):
        peers.statistics([0, 1], ["layer"])
    await_made_again(handles[1], before[1])
    assert pids(handles)[0] == before[0]


@pytest.mark.parametrize(
    ("calls", "hanging"),
    [(("", "export"), 1), (("graft", ""), 0)],
    ids=["as a donor", "in its own graft"],
)
def test_in_an_exchange_who_hangs_is_ended_and_who_waits_for_it_is_not(
    calls: tuple[str, str], hanging: int, made: Made
) -> None:
    handles = made(*calls)
    before = pids(handles)
    with pytest.raises(LostError, match=r"no answer within .* the peers' transplant"):
        RayPeers(handles, PATIENCE).transplant(swap())
    await_made_again(handles[hanging], before[hanging])
    assert pids(handles)[1 - hanging] == before[1 - hanging]
