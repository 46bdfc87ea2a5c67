"""How a run stands is known from its folder: while it goes on, when it was ended, and after."""

import json
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from peercollab.cli import main
from peercollab.results.heartbeat import (
    RUNNING,
    SECONDS_OF_SILENCE,
    Beat,
    Heartbeat,
    last_beat,
)
from peercollab.results.status import in_words, status
from tests.test_resume import log as log
from tests.traces import Watched, rounds_in, wait_until

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = "--hidden-size 8 --blocks 1 --max-length 20 --batch-size 16 --patience 0 --executor local"


def arguments(log: Path, folder: Path, epochs: int) -> list[str]:
    where = ["--data", str(log), "--out", str(folder)]
    return ["train", *where, "--epochs", str(epochs), *SMALL.split()]


@pytest.fixture
def going_on(log: Path, tmp_path: Path) -> Iterator[Watched]:
    """A run that would go on for long, with some rounds behind it."""
    run = Watched(arguments(log, tmp_path / "run", 100_000), tmp_path / "output.txt")
    try:
        folder = tmp_path / "run"
        wait_until(lambda: rounds_in(folder) >= 3, run.process, run.output.read_text)
        yield run
    finally:
        run.clean_up()


def test_a_run_that_goes_on_and_is_killed(
    going_on: Watched, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    now = status(folder)
    assert now.state == "running"
    assert now.where == f"process {going_on.process.pid} on {socket.gethostname()}"
    assert now.rounds >= 3
    assert now.age < 60
    assert now.record_age is not None
    assert now.record_age < 60
    assert now.checkpoint is not None
    assert [peer.peer for peer in now.peers] == [1, 2]
    assert all(peer.loss and peer.positions_a_second for peer in now.peers)
    assert "wait; peercollab report" in in_words(now)
    # Another driver would write into the same files.
    for command in (
        ["train", "--resume", str(folder)],
        [*arguments(log, folder, 2), "--overwrite"],
    ):
        assert main(command) == 2
        assert "the run is going on, as process" in capsys.readouterr().err
    going_on.process.kill()
    # Until its parent asks for its end its number stays in use.
    os.waitid(os.P_PID, going_on.process.pid, os.WEXITED | os.WNOWAIT)
    assert status(folder).state == "killed"
    going_on.process.wait(180)
    killed = status(folder)
    assert killed.state == "killed"
    assert killed.next == f"peercollab train --resume {folder}"
    assert main(["status", str(folder)]) == 0
    assert f"{folder}: killed (process {going_on.process.pid} on" in capsys.readouterr().out


def test_where_the_peers_are_is_told_while_it_goes_on(going_on: Watched, tmp_path: Path) -> None:
    deadline = time.monotonic() + 180
    now = status(tmp_path / "run")
    while not any(peer.now for peer in now.peers):
        assert time.monotonic() < deadline
        time.sleep(0.2)
        now = status(tmp_path / "run")
    peer = next(peer for peer in now.peers if peer.now)
    assert peer.now is not None
    assert peer.now["steps"] > 0
    assert f"now round {peer.now['round']}" in in_words(now)


def test_a_run_that_was_stopped_in_good_order(going_on: Watched, tmp_path: Path) -> None:
    going_on.process.send_signal(signal.SIGINT)
    assert going_on.process.wait(180) == 130
    stands = status(tmp_path / "run")
    assert (stands.state, stands.where) == ("stopped", None)
    assert stands.test is None
    assert not (tmp_path / "run" / RUNNING).exists()


def test_a_run_that_has_ended(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(arguments(log, folder, 2)) == 0
    rounds = folder / "rounds.jsonl"
    first, last = map(json.loads, rounds.read_text().splitlines())
    first["interruptions"] = [f"event {number}" for number in range(7)]
    rounds.write_text(json.dumps(first) + "\n" + json.dumps(last) + "\n")
    capsys.readouterr()
    assert main(["status", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert told["state"] == "ended"
    assert told["test"] == metrics["test"]["ndcg@10"]
    assert told["best"] == metrics["selected"]
    assert told["seconds"] == last["seconds"]
    report = last["peers"][1]
    assert told["peers"][1] == {
        "peer": 2,
        "loss": report["loss"],
        "validation": report["validation"]["ndcg@10"],
        "positions_a_second": pytest.approx(report["positions"] / report["seconds"]["train"]),
        "now": None,
    }
    assert main(["status", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"next: peercollab recommend {folder}" in said
    assert "2 earlier events" in said
    assert "round 1: event 6" in said
    assert "event 1\n" not in said


def made_to_go_on(folder: Path, **beat: Any) -> None:
    """Have the folder say that this process is its driver."""
    with Heartbeat(folder, list):
        own = json.loads((folder / RUNNING).read_text())
    (folder / RUNNING).write_text(json.dumps(own | beat))


def test_a_driver_is_known_after_its_machines_clock_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_to_go_on(tmp_path)
    began, boot = psutil.Process().create_time(), psutil.boot_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: began + 3600)
    monkeypatch.setattr(psutil, "boot_time", lambda: boot + 3600)
    beat = last_beat(tmp_path)
    assert beat
    assert beat.is_alive


def test_what_a_run_goes_through_since_its_last_record(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(arguments(log, folder, 1)) == 0
    rounds = folder / "rounds.jsonl"
    record = json.loads(rounds.read_text())
    rounds.write_text(json.dumps(record | {"interruptions": ["told already"]}) + "\n")
    os.utime(rounds, (time.time() - 7200,) * 2)
    progress = {"peer": 1, "round": 2, "step": 0, "steps": 9, "loss": math.nan, "phase": "train"}
    made_to_go_on(folder, progress=[progress], events=["told already", "peer 2 died"])
    capsys.readouterr()
    assert main(["status", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told["state"] == "running"
    assert told["peers"][0]["now"] == progress | {"loss": None}
    assert told["events"] == ["round 1: told already", "round 2: peer 2 died"]
    # The heart beats; and yet no round has been complete for long.
    assert told["age"] < 60 < 7000 < told["record_age"]
    assert main(["status", str(folder)]) == 0
    assert "last record of a round 2:00:0" in capsys.readouterr().out


def test_a_clock_that_is_ahead_is_not_told_as_a_negative_age(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main(arguments(log, folder, 1)) == 0
    os.utime(folder / "rounds.jsonl", (time.time() + 500,) * 2)
    stands = status(folder)
    assert (stands.age, stands.record_age) == (0.0, 0.0)


def test_a_driver_elsewhere_counts_as_gone_when_it_has_been_silent(tmp_path: Path) -> None:
    beat = Beat("another host", 1, 0.0, time.time(), [], [])
    assert beat.is_alive
    assert not replace(beat, at=time.time() - SECONDS_OF_SILENCE - 1).is_alive
    # A process number that another process has by now.
    assert not replace(beat, host=socket.gethostname()).is_alive
    (tmp_path / RUNNING).write_text("{cut off")
    assert last_beat(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is not the folder of a run"),
        ({"config.json": "{"}, "config.json is damaged"),
        ({"config.json": "5"}, "config.json is damaged: it is no JSON object"),
        ({"config.json": None}, "config.json cannot be read: Is a directory"),
        ({"config.json": "{}"}, "is of another version of peercollab, or damaged"),
        ({"config.json": "{}", "rounds.jsonl": None}, "rounds.jsonl cannot be read: Is a dir"),
        ({"config.json": "{}", "rounds.jsonl": "5"}, "is of another version of peercollab"),
        ({"config.json": "{}", "metrics.json": "{"}, "is of another version of peercollab"),
    ],
)
def test_what_is_no_run_is_told_in_a_line(
    files: dict[str, str | None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        if text is None:
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_text(text)
    assert main(["status", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
