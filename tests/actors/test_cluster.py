"""Runs that join a cluster which others started, from the command line."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ray.exceptions import AuthenticationError

from peercollab.actors.connection import connect
from peercollab.actors.options import ExecutionOptions
from peercollab.cli import main
from peercollab.errors import PeercollabError

OPTIONS = ["--epochs", "2", "--hidden-size", "8", "--max-length", "10", "--threads-per-peer", "1"]
OPEN = {"RAY_AUTH_MODE": "disabled"}
GUARDED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
SECONDS_TO_BEGIN = 120

Start = Callable[[dict[str, str]], str]


def ray(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", *arguments]


def environment(**settings: str) -> dict[str, str]:
    """This process's own, without what it says of Ray's tokens, and with some settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return own | settings


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a cluster with `ray start --head`, and ends it with the test; gives its address."""
    heads = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Ray's sockets lie below this folder, and their paths may not be long.
    folder = Path("/tmp") / f"ray-{port}"
    address = f"127.0.0.1:{port}"

    def start_head(settings: dict[str, str]) -> str:
        limits = ["--num-cpus=2", "--object-store-memory=100000000", "--include-dashboard=false"]
        command = ray("start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}")
        with (tmp_path / "head.log").open("w") as log:
            heads.append(
                subprocess.Popen(
                    [*command, *limits], env=environment(**settings), stdout=log, stderr=log
                )
            )
        deadline = time.monotonic() + SECONDS_TO_BEGIN
        while not is_up(address, settings):
            assert time.monotonic() < deadline, (tmp_path / "head.log").read_text()
        return address

    yield start_head

    for head in heads:
        family = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        head.wait(60)
        _, alive = psutil.wait_procs(family, timeout=20)
        for process in alive:
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def is_up(address: str, settings: dict[str, str]) -> bool:
    health = ray("health-check", f"--address={address}")
    return not subprocess.run(health, env=environment(**settings), capture_output=True).returncode


def train(out: Path, address: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "peercollab", "train", "--out", str(out), *OPTIONS]
    return subprocess.run(
        command,
        env=environment(RAY_ADDRESS=address, **settings),
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
@pytest.mark.parametrize("settings", [OPEN, GUARDED], ids=["open", "guarded"])
def test_a_run_joins_a_cluster_and_leaves_it_running(
    settings: dict[str, str], start: Start, tmp_path: Path
) -> None:
    address = start(settings)
    joined = train(tmp_path / "joined", address, settings)
    assert joined.returncode == 0, joined.stderr
    assert joined.stderr == ""
    assert is_up(address, settings)
    assert main(["train", "--out", str(tmp_path / "local"), "--executor", "local", *OPTIONS]) == 0
    kept = "best/model.safetensors"
    assert (tmp_path / "joined" / kept).read_bytes() == (tmp_path / "local" / kept).read_bytes()


@pytest.mark.slow
def test_a_missing_token_is_told_with_its_remedy(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "run"
    refused = train(out, start(GUARDED), {})
    assert refused.returncode == 2
    assert "set RAY_AUTH_MODE=token" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (
            ConnectionError("Could not find any running Ray instance.\nMore words."),
            "Ray could not be reached or started: Could not find any running Ray instance.; if the "
            "cluster asks for a token, set RAY_AUTH_MODE=token",
        ),
        (
            AuthenticationError("Invalid token."),
            "--address auto: the cluster wants another token, or one at all: have that of its head",
        ),
    ],
    ids=["none", "guarded"],
)
def test_a_cluster_that_cannot_be_joined_is_told(
    raised: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(address: str, **_: object) -> None:
        assert address == "auto"
        raise raised

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(PeercollabError, match=re.escape(told)):
        connect(ExecutionOptions(address="auto"))
