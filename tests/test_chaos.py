"""Peers, coordinator and driver killed at random moments: the end is as if nothing had been.

./scripts/test --slow tests/test_chaos.py
"""

import json
import random
import re
import shlex
import time
from pathlib import Path
from typing import Literal

import psutil
import pytest

from peercollab.cli import main
from tests.test_resume import log as log
from tests.test_resume import outcome
from tests.traces import Kind, Watched, rounds_in

RUN = "--hidden-size 8 --blocks 1 --max-length 20 --batch-size 16 --threads-per-peer 1 --patience 0"
KILLS = 20
MOST_SECONDS_TO_NOTICE = 5.0
LOSS = re.compile(r"^(?:lost:|resumed after)", re.MULTILINE)

OWN_RULE = """
from pathlib import Path

def halfway(own, donor, keep):
    if Path({switch!r}).exists():
        raise RuntimeError("out of luck")
    return (own + donor) / 2
"""
VICTIMS: tuple[Kind | Literal["driver"], ...] = ("peer", "coordinator", "peer", "driver")


def options(log: Path, folder: Path, epochs: int) -> list[str]:
    return [
        "train",
        "--data",
        str(log),
        "--out",
        str(folder),
        "--epochs",
        str(epochs),
        *RUN.split(),
    ]


def interruptions(folder: Path) -> list[str]:
    """What the record says of what went wrong."""
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    return [event for line in lines for event in json.loads(line)["interruptions"]]


def await_rounds(run: Watched, folder: Path, rounds: int, seconds: float = 120) -> bool:
    """Wait until so many rounds are recorded; whether the run goes on then."""
    deadline = time.monotonic() + seconds
    while rounds_in(folder) < rounds:
        if not run.is_running():
            return False
        assert time.monotonic() < deadline, run.output.read_text()
        time.sleep(0.02)
    return run.is_running()


def await_losses(run: Watched, losses: int, seconds: float = 120) -> None:
    """Wait until so many losses have been told, by this run or those that it goes on with."""
    deadline = time.monotonic() + seconds
    while len(re.findall(LOSS, run.output.read_text())) < losses:
        assert run.is_running(), run.output.read_text()
        assert time.monotonic() < deadline, run.output.read_text()
        time.sleep(0.02)


def await_actors(run: Watched, kind: Kind, seconds: float = 60) -> list[psutil.Process]:
    """The processes of a run's actors of a class, which may be being made again."""
    deadline = time.monotonic() + seconds
    while not (found := run.actors(kind)):
        assert time.monotonic() < deadline, f"{kind} did not come back"
        time.sleep(0.02)
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_at_random_moments_leave_no_trace_in_the_end(
    log: Path, tmp_path: Path
) -> None:
    epochs = 300
    assert main([*options(log, tmp_path / "whole", epochs), "--executor", "local"]) == 0
    folder, output = tmp_path / "disturbed", tmp_path / "output.txt"
    draws = random.Random(4)
    runs = [Watched(options(log, folder, epochs), output)]
    try:
        for kill in range(KILLS):
            # The last kill was told, and a round has been completed since: the run is at work.
            await_losses(runs[-1], kill)
            assert await_rounds(runs[-1], folder, rounds_in(folder) + 1), output.read_text()
            time.sleep(draws.uniform(0.0, 0.5))
            victim = VICTIMS[kill % len(VICTIMS)]
            if victim != "driver":
                draws.choice(await_actors(runs[-1], victim)).kill()
                continue
            runs[-1].process.kill()
            runs[-1].process.wait(60)
            runs.append(Watched(["train", "--resume", str(folder)], output))
        assert runs[-1].process.wait(240) == 0, output.read_text()
        for run in runs:
            run.require_no_traces()
    finally:
        for run in runs:
            run.clean_up()
    assert outcome(folder) == outcome(tmp_path / "whole")
    told = interruptions(folder)
    assert len(told) == KILLS
    assert sum("resumed after round" in event for event in told) == len(runs) - 1
    said = output.read_text()
    assert all(event in said for event in told)
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_killed_peer_is_noticed_within_seconds(log: Path, tmp_path: Path) -> None:
    """From SIGKILL to the line that says so."""
    folder = tmp_path / "run"
    run = Watched(options(log, folder, 60), tmp_path / "output.txt")
    try:
        run.said_at("round 2/60")
        victim = run.actors("peer")[0]
        killed = time.monotonic()
        victim.kill()
        noticed = run.said_at("lost: peer") - killed
        assert run.end() == 0, run.output.read_text()
        run.require_no_traces()
    finally:
        run.clean_up()
    print(f"noticed after {noticed:.2f} s")
    assert noticed < MOST_SECONDS_TO_NOTICE
    assert len(interruptions(folder)) == 1


@pytest.mark.slow
def test_a_rule_that_raises_ends_the_run_in_one_line_and_the_run_goes_on_later(
    log: Path, tmp_path: Path
) -> None:
    switch, rule = tmp_path / "switch", tmp_path / "own.py"
    rule.write_text(OWN_RULE.format(switch=str(switch)))
    own = ["--rule", f"{rule}:halfway"]
    assert main([*options(log, tmp_path / "whole", 60), *own, "--executor", "local"]) == 0
    folder = tmp_path / "run"
    run = Watched([*options(log, folder, 60), *own], tmp_path / "output.txt")
    try:
        run.said_at("round 2/60")
        switch.touch()
        assert run.end() == 2, run.output.read_text()
        run.require_no_traces()
    finally:
        run.clean_up()
    said = run.output.read_text()
    assert "Traceback" not in said
    *_, advice, complaint = said.splitlines()
    resume = ["train", "--resume", str(folder), "--rule", f"{rule}:halfway"]
    assert f"`{shlex.join(['peercollab', *resume])}` goes on" in advice
    assert re.match(
        r"peercollab: --rule .*own.py:halfway failed on .*: RuntimeError: out of luck", complaint
    )
    switch.unlink()
    assert main(resume) == 0
    assert outcome(folder) == outcome(tmp_path / "whole")
