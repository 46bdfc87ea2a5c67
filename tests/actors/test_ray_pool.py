"""Pieces of work over Ray: side by side, each in its own process, whatever becomes of one."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import ray

from peercollab.actors.options import ExecutionOptions
from peercollab.actors.pool import LocalPool
from peercollab.actors.ray_pool import RETRIES, RayPool
from peercollab.errors import PeercollabError
from tests.traces import SECONDS_TO_BEGIN

ONE_CORE = ExecutionOptions(peers=1, threads_per_peer=1)


def pool(shared: object = None, threads: int = 1) -> RayPool:
    return RayPool(ONE_CORE, threads, shared)


def idle() -> None: ...


def process(item: int, shared: int) -> tuple[int, int]:
    return item * shared, os.getpid()


def meet(item: int, folder: Path) -> bool:
    """Whether another piece of work is there at the same time."""
    (folder / str(item)).touch()
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while len(list(folder.iterdir())) < 2:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def die(item: int, folder: Path) -> int:
    """Die when it is 1, each time, and when it is 2, the first time."""
    attempts = folder / f"attempts-{item}"
    with attempts.open("a") as file:
        file.write("x")
    if item == 1 or (item == 2 and attempts.read_text() == "x"):
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail(item: int, folder: Path) -> None:
    raise ValueError(f"no {item} in {folder.name}")


def ponder(seconds: float) -> None:
    time.sleep(seconds)


def wait(item: int, folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(600)


@pytest.mark.usefixtures("ray_cluster")
def test_every_piece_has_a_process_of_its_own_and_reads_what_is_shared() -> None:
    with pool(10) as own:
        done = dict(own.each(process, [1, 2, 3, 4], idle))
    results = {item: result for item, result in done.items() if not isinstance(result, Exception)}
    assert {item: value for item, (value, _) in results.items()} == {1: 10, 2: 20, 3: 30, 4: 40}
    assert len({number for _, number in results.values()} | {os.getpid()}) == 5


@pytest.mark.usefixtures("ray_cluster")
def test_as_many_are_done_at_a_time_as_there_are_cores(tmp_path: Path) -> None:
    with pool(tmp_path) as own:
        assert dict(own.each(meet, [1, 2], idle)) == {1: True, 2: True}


@pytest.mark.usefixtures("ray_cluster")
def test_a_piece_whose_process_dies_is_tried_again_and_the_others_are_done(tmp_path: Path) -> None:
    watched = []
    with pool(tmp_path) as own:
        done = dict(own.each(die, [1, 2, 3], lambda: watched.append(1)))
    assert (done[2], done[3]) == (2, 3)
    assert isinstance(done[1], PeercollabError)
    assert f"its process died {RETRIES + 1} times" in str(done[1])
    assert (tmp_path / "attempts-1").read_text() == "x" * (RETRIES + 1)
    assert (tmp_path / "attempts-2").read_text() == "xx"
    assert watched


@pytest.mark.usefixtures("ray_cluster")
def test_of_a_piece_that_raises_the_error_is_told(tmp_path: Path) -> None:
    with pool(tmp_path) as own:
        ((item, error),) = own.each(fail, [1], idle)
    assert item == 1
    assert str(error) == f"it failed: ValueError: no 1 in {tmp_path.name}"


@pytest.mark.usefixtures("ray_cluster")
def test_a_node_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peercollab.actors.ray_pool.SECONDS_TO_ANSWER", 0.5)
    (node,) = ray.nodes()
    name = node["NodeManagerHostname"]
    with pytest.raises(PeercollabError, match=f"no answer from {name} within 0.5 s"), pool() as own:
        own.everywhere(ponder, 3.0)


@pytest.mark.usefixtures("ray_cluster")
def test_what_is_not_done_is_ended_with_the_pool(tmp_path: Path) -> None:
    def stop_when_begun() -> None:
        if list(tmp_path.iterdir()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pool(tmp_path) as own:
        list(own.each(wait, [1, 2, 3], stop_when_begun))
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while any(psutil.pid_exists(int(path.name)) for path in tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ray.is_initialized()


@pytest.mark.usefixtures("ray_cluster")
def test_a_piece_that_fits_nowhere_is_refused() -> None:
    options = ExecutionOptions(peers=1, threads_per_peer=1, device="cuda")
    with (
        pytest.raises(PeercollabError, match=r"needs room for 1 peer of 1 CPU and 1 GPU"),
        RayPool(options, 1, None) as own,
    ):
        list(own.each(process, [1], idle))


def test_without_a_piece_to_be_done_no_cluster_is_asked_for() -> None:
    nowhere = ExecutionOptions(peers=1, threads_per_peer=1, address="203.0.113.1:6379")
    with RayPool(nowhere, 1, None) as own:
        assert list(own.each(process, [], idle)) == []


@pytest.mark.parametrize("make", [LocalPool])
def test_in_this_process_one_is_done_after_the_other(make: Callable[[int], LocalPool]) -> None:
    with make(10) as own:
        done = list(own.each(process, [3, 1], idle))
    assert done == [(3, (30, os.getpid())), (1, (10, os.getpid()))]
