"""A Ray cluster of three nodes on this machine, brought up and down by ./scripts/local-cluster."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from scripts.local_cluster import nodes

ROOT = Path(__file__).parents[2]
SHARED_MEMORY = Path("/dev/shm")


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's own, with its interpreter for the scripts, and without Ray's addresses."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
    return own | {"PEERCOLLAB_PYTHON": sys.executable} | settings


def local_cluster(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "scripts" / "local-cluster"), *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )


def segments(folder: Path) -> set[Path]:
    """The shared memory that the cluster's processes have, also what has no name any more."""
    paths = set()
    for process in nodes.processes(folder):
        with suppress(psutil.Error):
            paths |= {Path(mapped.path) for mapped in process.memory_maps()}
    return {path for path in paths if path.is_relative_to(SHARED_MEMORY)}


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Path]:
    """The folder of a cluster that is up; nothing may be left of it afterwards."""
    # Ray's sockets lie below this folder, and their paths may not be long.
    parent = Path(tempfile.mkdtemp(prefix="pc-", dir="/tmp"))
    folder = parent / "ray"
    up = local_cluster("up", "--folder", str(folder))
    assert up.returncode == 0, up.stderr

    yield folder

    mapped = segments(folder)
    assert mapped
    down = local_cluster("down", "--folder", str(folder))
    assert down.returncode == 0, down.stderr
    assert nodes.processes(folder) == []
    assert [path for path in mapped if path.exists()] == []
    assert list(parent.iterdir()) == []
    parent.rmdir()


@pytest.fixture(scope="session")
def cluster(cluster_folder: Path) -> nodes.LocalCluster:
    return nodes.read(cluster_folder)
