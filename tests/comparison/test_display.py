"""What is said while a comparison goes on."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from peercollab.comparison.display import RunsDisplay
from peercollab.comparison.work import Job, Outcome


def made(name: str, epochs: int, peers: int) -> Job:
    """What is shown of a job."""
    seen = SimpleNamespace(name=name, epochs=epochs, peers=peers, folder=Path("nowhere"))
    return cast(Job, seen)


def test_the_time_left_is_guessed_by_epochs_and_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    bad, one, two, end = (
        made("bad", 10, 2),
        made("one", 10, 1),
        made("two", 10, 2),
        made("end", 0, 0),
    )
    file = io.StringIO()
    with RunsDisplay([bad, one, two, end], 3, Console(file=file, width=99)) as shown:
        clock[0] = 60.0
        shown.done(bad, Outcome("out of luck"))
        clock[0] = 1800.0
        shown.done(one, Outcome(None, rounds=10, seconds=1800.0))
        shown.done(two, Outcome(None, rounds=9, seconds=3600.0))
        shown.done(end, Outcome(None))
    assert file.getvalue().splitlines() == [
        "runs to do: 4 of 7; epochs: up to 10",
        "4/7  bad: failed: out of luck",
        "5/7  one: 10 rounds, 0:30:00, about 1:00:00 left",
        "6/7  two: 9 rounds, 1:00:00",
        "7/7  end: ranked",
    ]


def test_where_nothing_is_trained_no_time_is_guessed() -> None:
    file = io.StringIO()
    ends = [made("soup", 0, 0), made("ensemble", 0, 0)]
    with RunsDisplay(ends, 0, Console(file=file, width=99)) as shown:
        shown.done(ends[0], Outcome(None))
    assert file.getvalue().splitlines() == ["runs to do: 2 of 2", "1/2  soup: ranked"]
