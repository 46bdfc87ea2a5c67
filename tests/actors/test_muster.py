"""Peers that were lost come back, or stay away, each with its reason."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from peercollab.actors.muster import Muster
from peercollab.actors.ray_peers import get
from peercollab.errors import LostError, PeercollabError

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Standing:
    """A peer of which no more is asked than whether it is there; made after so many attempts."""

    def __init__(self, attempts: Path, failing: int) -> None:
        with attempts.open("a") as file:
            file.write("x")
        if len(attempts.read_text()) <= failing:
            raise RuntimeError("no memory yet")

    def halt(self) -> None: ...

    def read(self, path: Path) -> str:
        return path.read_text()


class Blind(Standing):
    def read(self, path: Path) -> str:
        return "what lies there on this node"


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text("{}")
    return path


@pytest.fixture
def muster(tmp_path: Path) -> Iterator[Callable[..., Muster]]:
    """Musters of peers of these kinds, each of which fails so many times to be made."""
    made: list[Any] = []

    def muster(*kinds: tuple[type[Standing], int]) -> Muster:
        def make(place: int) -> Any:
            kind, failing = kinds[place]
            actor = ray.remote(concurrency_groups={"control": 1})(kind)
            options = actor.options(num_cpus=0, max_restarts=-1, max_task_retries=0)
            made.append(options.remote(tmp_path / f"attempts-{place}", failing))
            return made[-1]

        peers = Muster(make, len(kinds))
        # So that no test's patience is spent on the start of processes.
        ray.get(
            [
                handle.__ray_ready__.remote()
                for handle, (_, failing) in zip(peers.handles, kinds, strict=True)
                if not failing
            ]
        )
        return peers

    yield muster
    for actor in made:
        ray.kill(actor)


def test_all_that_are_there_are_present(muster: Callable[..., Muster], proof: Path) -> None:
    peers = muster((Standing, 0), (Standing, 0))
    peers.await_return(proof, 60)
    assert (peers.present, peers.away) == ([0, 1], set())


def test_one_that_cannot_be_made_at_first_is_made_anew(
    muster: Callable[..., Muster], proof: Path, tmp_path: Path
) -> None:
    peers = muster((Standing, 0), (Standing, 2))
    before = list(peers.handles)
    peers.await_return(proof, 120)
    assert peers.present == [0, 1]
    assert (tmp_path / "attempts-1").read_text() == "xxx"
    assert peers.handles[0] == before[0]
    assert peers.handles[1] != before[1]


def test_one_that_cannot_be_made_at_all_is_away_with_its_reason(
    muster: Callable[..., Muster], proof: Path
) -> None:
    peers = muster((Standing, 0), (Standing, 10**6))
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(peers.handles[1].__ray_ready__.remote())
    peers.await_return(proof, 1)
    assert (peers.present, peers.away) == ([0], {1})
    assert "no memory yet" in peers.why_away([1])
    assert peers.why_away([0]) == ""


def test_one_that_does_not_see_the_folder_stays_away(
    muster: Callable[..., Muster], proof: Path
) -> None:
    peers = muster((Standing, 0), (Blind, 0))
    peers.await_return(proof, 1)
    assert peers.present == [0]
    assert f"it does not see {proof.parent}" in peers.why_away([1])
    assert peers.take_back(proof) == []


def test_one_that_was_away_counts_as_soon_as_it_is_back(
    muster: Callable[..., Muster], proof: Path
) -> None:
    peers = muster((Standing, 0), (Standing, 0), (Blind, 0))
    peers.await_return(proof, 5)
    peers.away |= {1}
    # Another is lost meanwhile; the one that was away is not waited for, and yet is seen.
    peers.away -= {2}
    peers.await_return(proof, 5)
    assert peers.present == [0, 1]


def test_what_was_lost_with_another_node_is_a_loss_and_no_fault() -> None:
    @ray.remote(num_cpus=0)
    def read_what_is_gone() -> None:
        raise ray.exceptions.ObjectLostError("ab" * 28, None, "")

    with pytest.raises(LostError, match="the peers' transplant came to nothing: ObjectLostError"):
        get([read_what_is_gone.remote()], "the peers' transplant")


def test_an_error_of_a_peers_own_is_no_loss() -> None:
    @ray.remote(num_cpus=0)
    def fail() -> None:
        raise ValueError(os.name)

    with pytest.raises(PeercollabError, match="failed: ValueError") as failed:
        get([fail.remote()], "the peers' rank")
    assert not isinstance(failed.value, LostError)
