"""Runs as jobs on a cluster of real `ray start` processes, submitted from the command line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peercollab.cli import main
from peercollab.serving.recommender import Recommender
from scripts.local_cluster.nodes import LocalCluster
from tests.jobs.conftest import ROOT, clean_environment, local_cluster

SMALL = ["--hidden-size", "8", "--max-length", "10", "--threads-per-peer", "1"]
OPTIONS = ["--epochs", "2", "--peers", "3", *SMALL]
SECONDS_TO_BEGIN = 120
SECONDS_TO_END = 90

pytestmark = pytest.mark.slow


def submit_command(cluster: LocalCluster, *train: str) -> list[str]:
    script = str(ROOT / "scripts" / "submit")
    return [script, "--address", cluster.jobs, "--python", sys.executable, "--", *train]


def run(command: list[str], settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=clean_environment(**settings), capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def local_weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the same run keeps without Ray."""
    out = tmp_path_factory.mktemp("local") / "run"
    assert main(["train", "--out", str(out), "--executor", "local", *OPTIONS]) == 0
    return (out / "best" / "model.safetensors").read_bytes()


def test_a_job_succeeds_with_its_log_and_its_run_folder(
    cluster: LocalCluster, local_weights: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = run(submit_command(cluster, "--out", str(out), *OPTIONS), cluster.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("round 2/2") == 3
    assert f"run folder: {out}" in done.stdout
    assert (out / "best" / "model.safetensors").read_bytes() == local_weights


def test_rays_own_command_does_the_same(
    cluster: LocalCluster, local_weights: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ray = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
    train = [sys.executable, "-m", "peercollab", "train", "--out", str(out), *OPTIONS]
    command = [*ray, "--address", cluster.jobs, "--working-dir", str(ROOT), "--", *train]
    done = run(command, cluster.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "best" / "model.safetensors").read_bytes() == local_weights


def test_a_failing_job_fails(cluster: LocalCluster, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    command = submit_command(cluster, "--out", str(out), *OPTIONS)
    done = run(command, cluster.environment())
    assert done.returncode == 1
    assert "exists already" in done.stdout
    assert done.stderr.startswith("submit: job peercollab-")
    assert done.stderr.endswith("failed with exit code 2\n")
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_stops_the_job_which_keeps_what_it_has(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    endless = ["--epochs", "5000", "--patience", "0", *SMALL]
    process = subprocess.Popen(
        submit_command(cluster, "--out", str(out), *endless),
        env=clean_environment(**cluster.environment()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + SECONDS_TO_BEGIN
        while not (out / "rounds.jsonl").is_file():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        said, complaint = process.communicate(timeout=SECONDS_TO_END)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "the best state of them is kept" in said
    assert complaint.endswith("was stopped\n")
    assert len(complaint.splitlines()) == 1
    assert not Recommender.load(out).recommend({"someone": ["item-001", "item-002"]}, k=3).empty


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "export RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef"}, "refuses the token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/no/such/file"}, "asks for a token"),
    ],
    ids=["no mode", "another's token", "no token"],
)
def test_a_missing_token_is_told_with_its_remedy(
    settings: dict[str, str], expected: str, cluster: LocalCluster, tmp_path: Path
) -> None:
    done = run(submit_command(cluster, "--out", str(tmp_path / "run")), settings)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "~/.ray/auth_token" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_clusters_own_port_is_no_dashboard(cluster: LocalCluster, tmp_path: Path) -> None:
    wrong = LocalCluster(cluster.address, cluster.address, cluster.token, [])
    done = run(submit_command(wrong, "--out", str(tmp_path / "run")), cluster.environment())
    assert done.returncode == 2
    assert "what answers is no web server" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_cluster_that_is_up_is_not_started_again(cluster: LocalCluster) -> None:
    folder = str(Path(cluster.token).parent)
    again = local_cluster("up", "--folder", folder)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert len(cluster.pids) == 3
    assert (Path(folder) / "cluster.json").is_file()
