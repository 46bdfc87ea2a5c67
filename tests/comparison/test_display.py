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
    one, two, end = made("one", 10, 1), made("two", 10, 2), made("end", 0, 0)
    file = io.StringIO()
    with RunsDisplay([one, two, end], 3, Console(file=file, width=99)) as shown:
        clock[0] = 1800.0
        shown.done(one, Outcome(None, rounds=10, seconds=1800.0))
        clock[0] = 3600.0
        shown.done(two, Outcome("out of luck"))
        shown.done(end, Outcome(None))
    assert file.getvalue().splitlines() == [
        "3 of 6 runs to do, of up to 10 epochs each",
        "4/6  one: 10 rounds, 0:30:00, about 1:00 hours left",
        "5/6  two: failed: out of luck",
        "6/6  end: ranked",
    ]


def test_where_nothing_is_trained_no_time_is_guessed() -> None:
    file = io.StringIO()
    ends = [made("soup", 0, 0), made("ensemble", 0, 0)]
    with RunsDisplay(ends, 0, Console(file=file, width=99)) as shown:
        shown.done(ends[0], Outcome(None))
    assert file.getvalue().splitlines() == ["2 of 2 runs to do", "1/2  soup: ranked"]
