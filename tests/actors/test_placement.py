"""Where peers come to be on real nodes, and what is said when they cannot be had."""

import subprocess
import sys
from pathlib import Path

import pytest

from peercollab.actors.connection import connect
from peercollab.actors.options import ExecutionOptions
from peercollab.errors import PeercollabError

DRIVER = Path(__file__).with_name("placement_driver.py")


def play(scene: str, folder: Path) -> None:
    """A scene of the driver, in a process of its own, as this one has a cluster already."""
    done = subprocess.run(
        [sys.executable, str(DRIVER), scene, str(folder)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines()[-1] == f"{scene}: as expected"


def test_a_cluster_of_one_run_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(PeercollabError, match=r"--wait-for-resources has no effect.*--address"):
        connect(ExecutionOptions(wait_for_resources=5))


def test_a_ray_that_does_not_come_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(PeercollabError, match=r"not up within half a minute.*--executor local"):
        connect(ExecutionOptions())


def test_peers_get_a_gpu_each_and_a_fourth_is_refused(tmp_path: Path) -> None:
    """GPUs are promised to Ray by hand, so placement is real though the machine has none."""
    play("gpus", tmp_path)


@pytest.mark.slow
def test_peers_lie_on_nodes_as_the_strategy_says(tmp_path: Path) -> None:
    play("strategies", tmp_path)


@pytest.mark.slow
def test_a_cluster_is_waited_for(tmp_path: Path) -> None:
    play("waiting", tmp_path)


@pytest.mark.slow
def test_a_cluster_that_others_use(tmp_path: Path) -> None:
    play("others", tmp_path)


@pytest.mark.slow
def test_every_node_with_room_for_a_piece_of_work_can_be_asked(tmp_path: Path) -> None:
    play("everywhere", tmp_path)
