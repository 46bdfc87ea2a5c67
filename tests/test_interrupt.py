"""A run that is stopped ends in seconds, keeps what it has, and leaves no process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from peercollab.cli import main
from peercollab.serving.recommender import Recommender
from tests.traces import last_words, wait_until

SECONDS_TO_BEGIN = 240
SECONDS_TO_END = 60


def listen_to_ctrl_c() -> None:
    """What a shell runs in the background ignores SIGINT, and so would all that the tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file has a line in it, while the process lives."""
    wait_until(
        lambda: path.is_file() and path.stat().st_size > 0,
        process,
        lambda: f"no {path}: {last_words(process)}",
    )


@pytest.mark.parametrize(
    ("executor", "number"),
    [
        ("ray", signal.SIGINT),
        pytest.param("ray", signal.SIGTERM, marks=pytest.mark.slow),
        ("local", signal.SIGINT),
    ],
)
def test_stopping_keeps_the_last_round_and_leaves_no_process(
    executor: str, number: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["train", "--out", str(out), "--epochs", "500", "--executor", executor]
    process = subprocess.Popen(
        [sys.executable, "-m", "peercollab", *command, "--hidden-size", "8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen_to_ctrl_c,
    )
    try:
        wait_for(out / "rounds.jsonl", process)
        family = psutil.Process(process.pid).children(recursive=True)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # As a terminal does it: everyone in front gets it.
        else:
            process.send_signal(number)
        said, complaint = process.communicate(timeout=SECONDS_TO_END)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    assert process.returncode == 130
    assert complaint.strip() == "peercollab: stopped"
    assert "the best state of them is kept" in said
    if executor == "ray":
        assert len(family) > 3
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive

    assert not Recommender.load(out).recommend({"someone": ["item-001", "item-002"]}, k=3).empty
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").is_file()


def test_stopping_before_the_first_round_leaves_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    slow = ["--executor", "local", "--hidden-size", "512", "--batch-size", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "peercollab", "train", "--out", str(out), *slow],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=listen_to_ctrl_c,
    )
    try:
        wait_for(out / "config.json", process)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=SECONDS_TO_END)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert complaint.strip() == "peercollab: stopped"
    assert not out.exists()


@pytest.mark.parametrize("step", ["environment", "write_csv", "save_description"])
def test_stopping_while_the_folder_is_being_made_leaves_none(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"peercollab.rounds.{step}", stop)
    out = tmp_path / "run"
    assert main(["train", "--out", str(out), "--executor", "local", "--hidden-size", "8"]) == 130
    assert not out.exists()
