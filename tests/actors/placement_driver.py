"""Scenes on clusters of several nodes, each in a process of its own: run by test_placement.py.

``python tests/actors/placement_driver.py SCENE FOLDER`` fails where a scene goes otherwise.
"""

import io
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import psutil
import ray
import torch
from ray.cluster_utils import Cluster
from ray.util.placement_group import (
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from peercollab.actors import ray_executor
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.placement import peers_by_node, reserve
from peercollab.actors.ray_pool import RayPool
from peercollab.cli import main
from peercollab.errors import PeercollabError

SHORT = ["--epochs", "1", "--hidden-size", "8", "--blocks", "1", "--max-length", "10"]
STORE_BYTES = 80 << 20


@contextmanager
def cluster(nodes: int) -> Iterator[Cluster]:
    """A cluster of nodes of one CPU, and this process its driver; no process of it stays."""
    settings = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE_BYTES}
    made = Cluster(initialize_head=True, head_node_args={**settings, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            made.add_node(**settings)
        ray.init(made.address, log_to_driver=False, logging_level="ERROR")
        made.wait_for_nodes()
        yield made
    finally:
        family = psutil.Process().children(recursive=True)
        ray.shutdown()
        made.shutdown()
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive, alive


class Seen:
    """What every peer of a run said of where it is, asked at its first round."""

    def __init__(self, ask: Callable[[object], str]) -> None:
        self.answers: list[str] = []
        self._run_round = ray_executor.RayExecutor.run_round

        def run_round(executor: ray_executor.RayExecutor, *arguments: object) -> object:
            self.answers = ray.get(
                [peer.__ray_call__.remote(ask) for peer in executor._muster.handles]
            )
            return self._run_round(executor, *arguments)  # type: ignore[arg-type]

        ray_executor.RayExecutor.run_round = run_round  # type: ignore[assignment, method-assign]


class Told(io.StringIO):
    """Standard output that calls a function, in the run's own thread, when it begins to wait."""

    def __init__(self, on_waiting: Callable[[], None]) -> None:
        super().__init__()
        self._on_waiting: Callable[[], None] | None = on_waiting

    def write(self, text: str) -> int:
        if text.startswith("waiting") and self._on_waiting:
            on_waiting, self._on_waiting = self._on_waiting, None
            on_waiting()
        return super().write(text)


def node_of(_: object) -> str:
    return str(ray.get_runtime_context().get_node_id())


def devices_of(_: object) -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


def refuse(out: Path, *options: str, within: float = 20.0) -> str:
    """A run that must be refused in seconds and leave nothing; what stderr says."""
    started = time.monotonic()
    code, _, said = train(out, *options)
    assert time.monotonic() - started < within, time.monotonic() - started
    assert code == 2, said
    assert len(said.splitlines()) <= 2, said
    assert "Traceback" not in said
    require_nothing_left(out)
    return said


def train(out: Path, *options: str, stdout: io.StringIO | None = None) -> tuple[int, str, str]:
    """A short run in this process: its exit code, what it printed, and its complaint."""
    stdout, stderr = stdout or io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = main(["train", "--out", str(out), *SHORT, *options])
    return code, stdout.getvalue(), stderr.getvalue()


def require_nothing_left(out: Path) -> None:
    assert not out.exists()
    assert not [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
    assert not [
        process
        for process in psutil.Process().children(recursive=True)
        if "Actor" in process.name()
    ]


def gpus(out: Path) -> None:
    ray.init(
        "local",
        num_cpus=4,
        num_gpus=3,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        log_to_driver=False,
        logging_level="ERROR",
    )
    said = refuse(out, "--peers", "4")
    assert "room for 4 peers of 1 CPU and 1 GPU (4 CPU and 4 GPU in all)" in said, said
    assert "1 node of 4 CPU and 3 GPU, room for 3. Take --gpus-per-peer 0.5, --peers 3" in said, (
        said
    )

    seen = Seen(devices_of)
    code, _, complaint = train(out, "--peers", "3")
    assert code == 0, complaint
    assert sorted(seen.answers) == ["0", "1", "2"], seen.answers

    # Ray has GPUs to give, of which torch sees none: auto takes the CPU, and cuda does not.
    if not torch.cuda.is_available():
        shutil.rmtree(out)
        code, _, said = train(out, "--peers", "2", "--device", "cuda")
        assert (code, out.exists()) == (2, False), said
        assert f"on {socket.gethostname()}: --device cuda: torch sees no GPU here" in said, said

    # Ray agrees that a share of a GPU lies on one card.
    group = placement_group([{"GPU": 0.75}] * 4)
    assert not group.wait(2)
    remove_placement_group(group)
    group, bundle = reserve(ExecutionOptions(gpus_per_peer=0.5), 6, 1)
    assert bundle == {"CPU": 0.666, "GPU": 0.5}
    remove_placement_group(group)
    ray.shutdown()


def strategies(out: Path) -> None:
    with cluster(3):
        said = refuse(out, "--peers", "4", "--placement", "strict-spread", within=10)
        assert "room for 4 peers of 1 CPU (4 CPU in all), each on a node of its own" in said, said
        assert "3 nodes of 1 CPU, room for 3. Take --placement spread or --peers 3" in said, said
        said = refuse(out, "--device", "cuda", within=10)
        assert "3 nodes of 1 CPU and 0 GPU, room for 0. Take --device cpu" in said, said

        seen = Seen(node_of)
        code, _, complaint = train(out, "--peers", "3", "--placement", "strict-spread")
        assert code == 0, complaint
        assert len(seen.answers) == len(set(seen.answers)) == 3, seen.answers

        assert layout("pack", 4) == [2, 2]
        assert layout("spread", 4) == [1, 1, 2]
        assert layout("spread", 2) == layout("strict-spread", 2) == [1, 1]


def layout(placement: str, peers: int) -> list[int]:
    """How many peers each node has that has any, where nobody else is."""
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.1)
    options = ExecutionOptions(peers=peers, placement=placement)  # type: ignore[arg-type]
    group, _ = reserve(options, peers, 1)
    try:
        return sorted(peers_by_node(group).values())
    finally:
        remove_placement_group(group)


def waiting(out: Path) -> None:
    three = ["--peers", "3", "--placement", "strict-spread", "--wait-for-resources"]
    with cluster(2) as two:
        said = refuse(out, *three, "0.05")
        assert "waited 0.05 min: the run needs room for 3 peers of 1 CPU" in said, said
        assert "2 nodes of 1 CPU, free are 2 CPU in all; missing: room for 1 peer." in said, said

        ctrl_c = threading.Timer(1.5, os.kill, [os.getpid(), signal.SIGINT])
        stopped = Told(ctrl_c.start)
        code, _, complaint = train(out, *three, "5", stdout=stopped)
        assert (code, complaint) == (130, "peercollab: stopped\n"), complaint
        assert ctrl_c.finished.is_set()
        require_nothing_left(out)

        seen = Seen(node_of)
        grown = Told(lambda: two.add_node(num_cpus=1, num_gpus=0, object_store_memory=STORE_BYTES))
        code, told, complaint = train(out, *three, "5", stdout=grown)
        assert code == 0, complaint
        assert "waiting, 5 min more at most: the run needs" in told, told
        assert "room for all peers after" in told, told
        assert "--device cuda waits for GPUs" in told, told
        assert len(set(seen.answers)) == 3, seen.answers


def others(out: Path) -> None:
    with cluster(2):
        taken = placement_group([{"CPU": 1}])
        assert taken.wait(30)
        started = time.monotonic()
        try:
            reserve(ExecutionOptions(placement="strict-spread"), 2, 1)
        except PeercollabError as error:
            said = str(error)
        assert time.monotonic() - started < 20
        assert "2 nodes of 1 CPU, but others use it: free are 1 CPU in all" in said, said
        assert "--wait-for-resources" in said, said

        told: list[str] = []

        def hear(line: str) -> None:
            told.append(line)
            if line.startswith("waiting"):
                remove_placement_group(taken)

        options = ExecutionOptions(placement="strict-spread", wait_for_resources=3)
        group, bundle = reserve(options, 2, 1, hear)
        assert bundle == {"CPU": 1}
        assert len(peers_by_node(group)) == 2
        assert any(line.endswith("missing: what others use") for line in told), told
        remove_placement_group(group)


def everywhere(_: Path) -> None:
    with cluster(2) as made:
        made.add_node(num_cpus=0, num_gpus=0, object_store_memory=STORE_BYTES)
        made.wait_for_nodes()
        taken = placement_group([{"CPU": 1}] * 2)
        assert taken.wait(30)
        with RayPool(ExecutionOptions(), 1, None) as pool:
            told = [node for _, node in pool.everywhere(node_of, None)]
        nodes = [node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU")]
        assert len(nodes) == 2, ray.nodes()
        assert sorted(told) == sorted(nodes), (told, nodes)


if __name__ == "__main__":
    scene, folder = sys.argv[1:]
    scenes = {of.__name__: of for of in (gpus, strategies, waiting, others, everywhere)}
    scenes[scene](Path(folder) / "run")
    print(f"{scene}: as expected")
