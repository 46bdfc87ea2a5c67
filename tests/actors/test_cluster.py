"""A run that joins a cluster which others started, from the command line."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from peercollab.cli import main

OPTIONS = ["--epochs", "2", "--hidden-size", "8", "--max-length", "10", "--threads-per-peer", "1"]


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of its own in other processes, as `ray start --head` makes it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Ray's sockets lie below this folder, and their paths may not be long.
    folder = Path("/tmp") / f"ray-{port}"
    command = ["-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    limits = ["--num-cpus=2", "--object-store-memory=100000000", "--include-dashboard=false"]
    head = subprocess.Popen(
        [sys.executable, *command, *limits, "--disable-usage-stats", f"--temp-dir={folder}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        family = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        head.wait(60)
        _, alive = psutil.wait_procs(family, timeout=20)
        for process in alive:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_it_listens(address: str) -> None:
    """Ray's own word for a cluster that is ready."""
    health = [sys.executable, "-m", "ray.scripts.scripts", "health-check", f"--address={address}"]
    for _ in range(60):
        if subprocess.run(health, capture_output=True).returncode == 0:
            return
    pytest.fail(f"no cluster came up at {address}")


@pytest.mark.slow
def test_a_run_joins_a_cluster_and_leaves_it_running(address: str, tmp_path: Path) -> None:
    wait_until_it_listens(address)
    joined = subprocess.run(
        [sys.executable, "-m", "peercollab", "train", "--out", str(tmp_path / "joined"), *OPTIONS],
        env=os.environ | {"RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert joined.returncode == 0, joined.stderr
    assert joined.stderr == ""
    wait_until_it_listens(address)
    local = ["train", "--out", str(tmp_path / "local"), "--executor", "local", *OPTIONS]
    assert main(local) == 0
    kept = "best/model.safetensors"
    assert (tmp_path / "joined" / kept).read_bytes() == (tmp_path / "local" / kept).read_bytes()
