"""A peer that fails is named in seconds, and everything is cleaned up."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import pytest

from peercollab.actors.messages import PeerProgress, PeerSetup, SharedSetup
from peercollab.actors.options import ExecutionOptions
from peercollab.data.sequences import Histories
from peercollab.errors import PeercollabError
from peercollab.transplant.options import TransplantOptions

pytestmark = pytest.mark.usefixtures("ray_cluster")
MakeShared = Callable[..., SharedSetup]


def process_of(actor: Any) -> int:
    """The process that an actor lives in."""
    import ray

    return int(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())))


def gone(process: int) -> bool:
    """Whether a process has ended, waiting for it a little."""
    try:
        psutil.Process(process).wait(timeout=10)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


@pytest.mark.parametrize("victim", ["peer 2", pytest.param("coordinator", marks=pytest.mark.slow)])
def test_an_actor_killed_in_a_round_ends_the_run_with_a_message(
    victim: str, make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories
) -> None:
    from peercollab.actors.ray_executor import RayExecutor

    long_rounds = make_shared(TransplantOptions(), batch_size=1)
    executor = RayExecutor(ExecutionOptions(), two_peers, long_rounds, histories)
    processes = [process_of(actor) for actor in (*executor._muster.handles, executor._coordinator)]
    killed: list[int] = []

    def kill(progress: Sequence[PeerProgress]) -> None:
        if not killed and progress[1].phase == "train":
            killed.append(processes[1] if victim == "peer 2" else processes[2])
            os.kill(killed[0], signal.SIGKILL)

    expected = "peer 2 died during" if victim == "peer 2" else "the coordinator died during round 1"
    with pytest.raises(PeercollabError, match=expected), executor:
        executor.run_round(1, kill)
    assert killed
    assert all(gone(process) for process in processes)


def test_losses_that_are_not_finite_in_any_peer_stop_the_run_in_our_words(
    make_shared: MakeShared, histories: Histories
) -> None:
    from peercollab.actors.ray_executor import RayExecutor

    shared = make_shared(TransplantOptions())
    wild = [PeerSetup(1, 1, 1e30), PeerSetup(2, 2, 1e30)]
    with (
        pytest.raises(PeercollabError, match=r"the loss became .*learning rate 1e\+30.*lower --lr"),
        RayExecutor(ExecutionOptions(), wild, shared, histories) as executor,
    ):
        executor.run_round(1, lambda progress: None)


def test_peers_that_cannot_be_made_are_told_of_at_once(
    make_shared: MakeShared, two_peers: list[PeerSetup]
) -> None:
    import numpy as np

    from peercollab.actors.ray_executor import RayExecutor

    # Three interactions each: two are held out, and one is no sequence.
    short = Histories(np.arange(6, dtype=np.int32), np.array([0, 3, 6], dtype=np.int64), 90)
    with pytest.raises(PeercollabError, match="no user has two items to train on"):
        RayExecutor(ExecutionOptions(), two_peers, make_shared(TransplantOptions()), short)


def test_the_cluster_is_left_as_it_was_found(
    make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories
) -> None:
    import ray

    from peercollab.actors.ray_executor import RayExecutor

    with RayExecutor(
        ExecutionOptions(), two_peers, make_shared(TransplantOptions()), histories
    ) as executor:
        processes = [process_of(actor) for actor in executor._muster.handles]
    assert ray.is_initialized()
    assert all(gone(process) for process in processes)
    assert not [
        group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"
    ]
