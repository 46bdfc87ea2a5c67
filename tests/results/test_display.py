"""What is shown of a run, on a terminal and elsewhere."""

import io
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from rich.console import Console

from peercollab.results.display import RunDisplay, print_results

MakeRecord = Callable[..., dict[str, Any]]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Progress:
    peer: int
    round: int = 1
    step: int = 0
    steps: int = 10
    loss: float = math.nan
    phase: str = "train"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that can move its cursor, and no wish of the caller about colours."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def pipe(width: int | None = None, encoding: str = "utf-8") -> Console:
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=width)


def terminal(width: int = 100, encoding: str = "utf-8") -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(force_terminal=True, file=file, width=width)


def written(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.TextIOWrapper)
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(file.encoding)


def last_table(console: Console) -> list[list[str]]:
    """Cells of the table as it was drawn last, head first."""
    lines = CONTROL.sub("", written(console)).splitlines()
    head = max(i for i, line in enumerate(lines) if line.lstrip("\r").startswith("peer"))
    rows = [lines[head]] + [line for line in lines[head:] if line[:1].isdigit()]
    return [re.split(r" {2,}", row.strip()) for row in rows]


def test_a_pipe_gets_one_plain_line_for_each_peer_and_round(make_record: MakeRecord) -> None:
    console = pipe(width=30)
    with RunDisplay(10, console) as display:
        for round in (1, 2):
            display.watch([Progress(1, round), Progress(2, round)])
            display.record(make_record(round))
    assert written(console).splitlines() == [
        # Mean donor's share of round 1: 1 - (1/10 + 1/20 + p/10) / 3.
        "round 1/10  peer 1  loss 7.9100  ndcg@10 0.0110  from peer 2 92 %  12.1 s",
        "round 1/10  peer 2  loss 7.9200  ndcg@10 0.0120  from peer 1 88 %  12.2 s",
        "round 2/10  peer 1  loss 7.8100  ndcg@10 0.0210  from peer 2 87 %  12.1 s",
        "round 2/10  peer 2  loss 7.8200  ndcg@10 0.0220  from peer 1 83 %  12.2 s",
    ]


def test_lines_are_flushed_at_the_end_of_their_round(make_record: MakeRecord) -> None:
    console = pipe()
    with RunDisplay(10, console) as display:
        display.record(make_record(1))
        assert written(console).count("\n") == 2


def test_a_line_leaves_out_what_there_was_not(make_record: MakeRecord) -> None:
    console = pipe()
    record = make_record(1, exchange=False, validated=False)
    record["peers"][1]["loss"] = math.nan
    with RunDisplay(10, console) as display:
        display.record(record)
    assert written(console).splitlines() == [
        "round 1/10  peer 1  loss 7.9100  ndcg@10 -  12.1 s",
        "round 1/10  peer 2  loss -  ndcg@10 -  12.2 s",
    ]


def test_a_pipe_stays_plain_where_colours_are_asked_for(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    with RunDisplay(10) as display:
        display.watch([Progress(1)])
        display.record(make_record(1))
    assert "\x1b" not in file.getvalue()
    assert file.getvalue().count("\n") == 2


def test_a_terminal_shows_where_every_peer_is(make_record: MakeRecord) -> None:
    console = terminal()
    with RunDisplay(10, console) as display:
        display.watch([Progress(1), Progress(2, step=5, loss=6.5)])
    head, first, second = last_table(console)
    assert head == ["peer", "round", "epoch", "loss", "ndcg@10", "best", "received", "now"]
    assert [*first[:2], *first[-5:]] == ["1", "1/10", "-", "-", "-", "-", "train"]
    assert [*second[:2], *second[-5:]] == ["2", "1/10", "6.5000", "-", "-", "-", "train"]


def test_the_bar_grows_with_the_steps() -> None:
    def bar(step: int) -> int:
        console = Console(force_terminal=True, no_color=True, file=io.StringIO(), width=100)
        with RunDisplay(10, console) as display:
            display.watch([Progress(1, step=step)])
        file = console.file
        assert isinstance(file, io.StringIO)
        # In the drawing after the end, which is the last.
        return file.getvalue().rpartition("1/10")[2].count("━")

    assert bar(0) == 0
    assert bar(5) == 10
    assert bar(10) == 20


def test_a_terminal_keeps_the_best_and_what_was_received(make_record: MakeRecord) -> None:
    console = terminal()
    better, worse = make_record(2), make_record(1)
    worse["round"] = 3
    with RunDisplay(10, console) as display:
        display.record(better)
        display.record(worse)
        display.watch([Progress(1, 4, 1, loss=5.0), Progress(2, 3, 10, phase="exchange")])
    _, first, second = last_table(console)
    # Peer 1 is in the next round; of peer 2 no more is known than the record.
    assert [*first[:2], *first[-5:]] == [
        "1", "4/10", "5.0000", "0.0110", "0.0210", "from 2: 92 %", "train",
    ]  # fmt: skip
    assert [*second[:2], *second[-5:]] == [
        "2", "3/10", "7.9200", "0.0120", "0.0220", "from 1: 88 %", "done",
    ]  # fmt: skip
    assert "last round 14.0 s, best ndcg@10 0.0120 (peer 2, round 1)" in written(console)


def test_the_best_outlives_rounds_without_validation(make_record: MakeRecord) -> None:
    console = terminal()
    with RunDisplay(10, console) as display:
        display.record(make_record(1))
        display.record(make_record(2, validated=False))
    _, first, _ = last_table(console)
    assert first[-4:-2] == ["-", "0.0110"]


def test_a_run_that_goes_on_or_goes_back_stands_where_it_is(make_record: MakeRecord) -> None:
    console = terminal()
    records = [make_record(2), make_record(1)]
    records[1]["round"] = 3
    with RunDisplay(10, console) as display:
        display.stand(records)
        display.record(make_record(4))
        # One round is done again; what was better in it counts no more.
        display.stand(records)
        display.watch([Progress(1, 4, 1, loss=5.0), Progress(2, 4, 1, loss=5.0)])
    _, first, _ = last_table(console)
    assert [first[1], first[-3], first[-1]] == ["4/10", "0.0210", "train"]


def test_the_terminal_is_given_back_when_a_run_fails() -> None:
    console = terminal()

    def fail_while_shown() -> None:
        with RunDisplay(10, console) as display:
            display.watch([Progress(1)])
            raise RuntimeError("a peer died")

    with pytest.raises(RuntimeError, match="a peer died"):
        fail_while_shown()
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert hidden in written(console)
    assert written(console).rindex(shown) > written(console).rindex(hidden)


@pytest.mark.parametrize("make", [pipe, terminal])
def test_said_lines_stay_as_they_are(make: Callable[..., Console]) -> None:
    console = make(width=40)
    text = "stopped: [red]no markup[/red], no :smile:, and never wrapped " + "x" * 80
    with RunDisplay(10, console) as display:
        display.say(text)
    assert text in [line.strip("\r") for line in CONTROL.sub("", written(console)).splitlines()]


@pytest.mark.parametrize("width", [40, 72, 100])
@pytest.mark.parametrize("make", [pipe, terminal])
def test_a_terminal_without_unicode_is_no_obstacle(
    make: Callable[..., Console],
    width: int,
    make_record: MakeRecord,
    metrics: dict[str, Any],
) -> None:
    console = make(width=width, encoding="ascii")
    with RunDisplay(10, console) as display:
        display.watch([Progress(1, step=5), Progress(2)])
        display.record(make_record(1))
        display.say("from caf\u00e9.csv")
    print_results(console, metrics)
    assert "from caf\\xe9.csv" in written(console)
    assert "NDCG@10" in written(console)


def cells(console: Console) -> dict[str, list[str]]:
    """Cells of the results, by the name of their row."""
    rows = [re.split(r"  +", line.strip()) for line in written(console).splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


@pytest.mark.parametrize("width", [None, 20, 300])
def test_results_stand_beside_popularity_whatever_the_width(
    width: int | None, metrics: dict[str, Any]
) -> None:
    console = pipe(width=width)
    print_results(console, metrics)
    table = cells(console)
    assert table["metric"] == ["validation", "test", "popularity (test)", "test / popularity"]
    assert list(table)[1:] == [f"{name}@{k}" for name in ("HR", "MRR", "NDCG") for k in (5, 10, 20)]
    assert table["NDCG@10"] == ["0.0320", "0.0500", "0.0250", "2.00"]
    assert table["HR@20"] == ["0.1280", "0.2000", "0.1000", "2.00"]
    assert max(len(line) for line in written(console).splitlines()) <= 80
    assert "\x1b" not in written(console)


def test_results_of_a_stopped_run_compare_validation(metrics: dict[str, Any]) -> None:
    del metrics["test"]
    console = pipe()
    print_results(console, metrics)
    table = cells(console)
    assert table["metric"] == ["validation", "popularity (validation)", "validation / popularity"]
    assert table["NDCG@10"] == ["0.0320", "0.0200", "1.60"]


def test_popularity_of_nothing_has_no_ratio(metrics: dict[str, Any]) -> None:
    metrics["popularity"]["test"] = dict.fromkeys(metrics["test"], 0.0)
    console = pipe()
    print_results(console, metrics)
    assert cells(console)["NDCG@10"] == ["0.0320", "0.0500", "0.0000", "-"]


def test_a_peer_that_sat_out_is_named(make_record: MakeRecord) -> None:
    for console in (pipe(), terminal()):
        failure = {"peer": 2, "step": 7, "reason": "the loss became nan"}
        record = make_record(1) | {"failures": [failure]}
        record["peers"][1] |= {"loss": None, "validation": None}
        with RunDisplay(10, console) as display:
            display.record(record)
        told = "peer 2 sat round 1 out: the loss became nan (noticed by step 7)"
        assert told in written(console)


def test_many_donors_are_told_as_one_and_small_shares_are_not_rounded_away(
    make_record: MakeRecord,
) -> None:
    record = make_record(1, peers=4)
    record["transfers"] = [
        {"receiver": 1, "donor": donor, "shares": {"output": 0.0025}} for donor in (2, 3, 4)
    ] + [{"receiver": 2, "donor": donor, "shares": {"output": 0.2}} for donor in (1, 3)]
    console = pipe()
    with RunDisplay(10, console) as display:
        display.record(record)
    first, second, *_ = written(console).splitlines()
    assert "  from 3 peers 0.75 %  " in first
    assert "  from peer 1 20 %  from peer 3 20 %  " in second


def line_of_peer_1(record: dict[str, Any]) -> str:
    console = pipe()
    with RunDisplay(10, console) as display:
        display.record(record)
    return written(console).splitlines()[0]


@pytest.mark.parametrize(
    ("peers", "told"), [(3, ("from peer 2 60 %", "from peer 3 33 %")), (4, ("from 3 peers 100 %",))]
)
def test_donors_of_different_layers_give_no_more_than_the_whole(
    peers: int, told: tuple[str, ...], make_record: MakeRecord
) -> None:
    record = make_record(1, peers=peers)
    given = [
        (2, {"item_embedding": 1.0, "blocks.0.query": 0.8}),
        (3, {"output": 1.0}),
        (4, {"blocks.0.query": 0.2}),
    ]
    record["transfers"] = [
        {"receiver": 1, "donor": donor, "shares": shares} for donor, shares in given[: peers - 1]
    ]
    assert all(text in line_of_peer_1(record) for text in told)


@pytest.mark.parametrize(
    ("share", "told"), [(-1.0, "-100 %"), (-0.004, "-0.4 %"), (3.0, "300 %"), (123.4, "12340 %")]
)
def test_shares_beyond_the_whole_are_told_plainly(
    share: float, told: str, make_record: MakeRecord
) -> None:
    record = make_record(1)
    record["transfers"] = [{"receiver": 1, "donor": 2, "shares": {"output": share}}]
    assert f"  from peer 2 {told}  " in line_of_peer_1(record)
