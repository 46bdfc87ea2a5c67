"""What is seen of a run while it goes on: names of actors, their lines, and metrics.

./scripts/test tests/actors/test_seeing.py
"""

import io
import math
import re
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peercollab.actors.lines import MOST_CHARACTERS, MOST_LINES, Lines
from peercollab.actors.messages import Best, PeerReport
from peercollab.actors.metrics import COUNTERS, GAUGES, Reading, readings
from peercollab.actors.record import RoundRecord, Trouble
from peercollab.errors import LostError
from peercollab.run import train
from tests.actors.test_recovery import log as log
from tests.actors.test_recovery import options
from tests.traces import Watched

RULE = """
import logging
import sys
import warnings


def telling(own, donor, keep):
    print("a line of", own.shape[0])
    print("an error", file=sys.stderr)
    sys.stdout.writelines(["a line of lines\\n"])
    logging.warning("logged")
    warnings.warn("a warning")
    sys.stderr.write("\\r10 %\\r20 %\\n")
    print("unfinished", end="" if own.ndim == 1 else "\\n")
    return own
"""


def test_what_a_rule_prints_at_the_peers_is_shown_once_with_their_names(
    log: Path, tmp_path: Path
) -> None:
    (tmp_path / "rule.py").write_text(RULE)
    command = (
        f"train --data {log} --out {tmp_path / 'run'} --rule {tmp_path / 'rule.py'}:telling "
        "--layers final --epochs 1 --hidden-size 8 --blocks 1 --max-length 20"
    )
    run = Watched(command.split(), tmp_path / "output.txt")
    try:
        code = run.process.wait(240)
        lines = run.output.read_text().splitlines()
    finally:
        run.clean_up()
    assert code == 0, lines
    # A layer has a weight and a bias, and each peer is asked about both.
    for peer in (1, 2):
        own = [line for line in lines if line.startswith(f"peer {peer}: ")]
        said = [line.removeprefix(f"peer {peer}: ") for line in own]
        assert len([line for line in said if re.fullmatch(r"a line of \d+", line)]) == 2
        for line in ("an error", "a line of lines", "WARNING:root:logged", "20 %", "unfinished"):
            assert said.count(line) == 2, (line, lines)
        # Python warns once of a place, and shows the line that is there.
        assert len([line for line in said if line.endswith("UserWarning: a warning")]) == 1
        assert said.count('  warnings.warn("a warning")') == 1
        # Nothing of Ray's own, and nothing twice.
        assert len(said) == 14, said
    assert not [line for line in lines if line.startswith("the coordinator:")]
    assert not [line for line in lines if "pid=" in line or "repeated" in line]
    assert run.output.read_text().count("Traceback") == 0


def test_lines_are_kept_whole_and_not_without_end(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    lines = Lines(sys.stdout)
    print("one\ntw", end="", file=lines)
    assert lines.take() == ["one"]
    print("o", file=lines)
    assert lines.take() == ["two"]
    for number in range(MOST_LINES + 3):
        print(number, file=lines)
    first, *kept = lines.take()
    assert first == "... 3 lines left out"
    assert kept == [str(number) for number in range(3, MOST_LINES + 3)]
    assert lines.take() == []
    # Ray's own log of the process has all of it.
    assert capsys.readouterr().out.startswith("one\ntwo\n0\n1\n")


def test_what_a_terminal_would_not_show_is_left_out_of_lines() -> None:
    lines = Lines(io.StringIO())
    # Ray's word to its own log monitor, a bar that is drawn anew, an end of line as on Windows.
    lines.write(":actor_name:peer 1\n\r10 %\r20 %\nwhole\r\n\n")
    assert lines.take() == ["20 %", "whole"]
    for number in range(10_000):
        lines.write(f"\r{number} of many steps")
    assert len(lines._begun) <= MOST_CHARACTERS
    assert lines.take() == []
    # Nothing has come since: it is given as it stands, once.
    assert lines.take() == ["9999 of many steps"]
    assert lines.take() == []


def test_what_prints_while_it_is_printed_does_not_wait_for_itself() -> None:
    lines = Lines(io.StringIO())

    class Telling(str):
        """Prints when it is put behind what is there, as garbage may when it is collected."""

        def __radd__(self, before: str) -> str:
            lines.write("within\n")
            return before + str(self)

    writer = threading.Thread(target=lines.write, args=(Telling("without\n"),), daemon=True)
    writer.start()
    writer.join(10)
    assert not writer.is_alive()
    assert sorted(lines.take()) == ["within", "without"]


def test_a_record_as_metrics() -> None:
    reports = [
        PeerReport(1, 2.5, 1e-3, 300, {"ndcg@10": 0.25}, {"train": 1.5}),
        PeerReport.of_absent(2, "lost"),
    ]
    record = RoundRecord(
        round=3,
        peers=reports,
        bytes_moved=10,
        coordinator_bytes=0,
        seconds={"train": 1.6},
        troubles={1: Trouble(0, "lost")},
        best=Best(1, 2, 0.5),
    )
    told = list(readings(record))
    assert told == [
        Reading("peercollab_round", 3, {}),
        Reading("peercollab_loss", 2.5, {"peer": "1"}),
        Reading("peercollab_validation_ndcg10", 0.25, {"peer": "1"}),
        Reading("peercollab_positions_per_second", 200.0, {"peer": "1"}),
        Reading("peercollab_best_ndcg10", 0.5, {}),
        Reading("peercollab_round_seconds", 1.6, {"phase": "train"}),
        Reading("peercollab_bytes_moved", 10, {"what": "weights"}),
        Reading("peercollab_bytes_moved", 0, {"what": "messages"}),
        Reading("peercollab_sat_out", 1, {"peer": "2"}),
    ]
    declared = {**GAUGES, **COUNTERS}
    assert all(tuple(reading.tags) == declared[reading.name][1] for reading in told)


def scraped() -> dict[str, float]:
    """What Prometheus would read from this node, by name with tags."""
    import ray

    (node,) = ray.nodes()
    where = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(where, timeout=30) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"(ray_peercollab_\w+)\{(.*)\} (\S+)", line):
            tags = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            own = ",".join(f"{name}={tags[name]}" for name in ("run", "peer") if name in tags)
            key = f"{match[1]}[{own}]"
            found[key] = found.get(key, 0.0) + float(match[3])
    return found


@pytest.mark.usefixtures("ray_cluster")
def test_a_runs_metrics_can_be_scraped_and_its_actors_have_names(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.util import list_named_actors

    from peercollab.actors.ray_executor import RayExecutor

    names: list[str] = []
    losses = ["peer 1 died"]
    going_on: Callable[..., Any] = RayExecutor.run_round

    def run_round(self: RayExecutor, round: int, watch: Any) -> Any:
        if losses:
            raise LostError(losses.pop())
        names.extend(list_named_actors())
        # As for one that Ray gave up, which keeps its name.
        self._muster._make(1)
        return going_on(self, round, watch)

    monkeypatch.setattr(RayExecutor, "run_round", run_round)
    result = train(options(tmp_path / "seen", log, 1))
    mine = sorted(name.split(": ")[1] for name in names if name.startswith("seen "))
    assert mine == ["coordinator", "peer 1", "peer 2"]
    loss = result.rounds[-1]["peers"][1]["loss"]
    key = "ray_peercollab_loss[run=seen,peer=2]"
    deadline = time.monotonic() + 60
    while not math.isclose(scraped().get(key, math.nan), loss, rel_tol=1e-6):
        assert time.monotonic() < deadline, scraped()
        time.sleep(0.5)
    assert scraped()["ray_peercollab_round[run=seen]"] == 1
    assert scraped()["ray_peercollab_losses_total[run=seen]"] == 1
    moved = result.rounds[-1]["bytes_moved"] + result.rounds[-1]["coordinator_bytes"]
    assert scraped()["ray_peercollab_bytes_moved_total[run=seen]"] == moved > 0
