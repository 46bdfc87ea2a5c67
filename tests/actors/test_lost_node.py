"""A node is lost in the middle of a round, and comes back later: the end is the same.

./scripts/test --slow tests/actors/test_lost_node.py
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from peercollab.actors.coordinator import AWAY
from peercollab.results.run_folder import RunFolder
from tests.test_chaos import RUN, interruptions
from tests.test_resume import log as log
from tests.test_resume import outcome
from tests.traces import Watched, rounds_in

NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 << 20}
OPTIONS = f"--epochs 60 {RUN} --peers 3"
MOST_SECONDS_TO_NOTICE = {"killed": 5.0, "frozen": 20.0}

# What cluster/README.md advises: of itself Ray gives a node that is silent a minute.
QUICK_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


def freeze(node: Any) -> list[psutil.Process]:
    """Stop all that a node runs, as a lost network would: what was stopped cannot end by itself."""
    (raylet,) = node.all_processes["raylet"]
    top = psutil.Process(raylet.process.pid)
    processes = [top, *top.children(recursive=True)]
    for process in processes:
        process.suspend()
    return processes


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_node_that_is_lost_in_a_round_and_added_again_leaves_no_trace(
    how: str, start_nodes: Callable[..., Any], log: Path, tmp_path: Path
) -> None:
    nodes = start_nodes({**NODE, "_system_config": QUICK_CHECKS} if how == "frozen" else NODE)
    for _ in range(2):
        nodes.add_node(**NODE)
    train = ["train", "--data", str(log), *OPTIONS.split()]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = Watched(
        [*train, "--out", str(whole), "--executor", "local"], tmp_path / "whole.txt"
    )
    disturbed = Watched(
        [*train, "--out", str(cut), "--address", nodes.address, "--placement", "strict-spread"],
        tmp_path / "cut.txt",
    )
    frozen: list[psutil.Process] = []
    try:
        disturbed.said_at("round 3/60")
        time.sleep(0.3)
        node = next(iter(nodes.worker_nodes))
        lost = time.monotonic()
        if how == "frozen":
            frozen = freeze(node)
            noticed = disturbed.said_at("lost: ") - lost
        nodes.remove_node(node, allow_graceful=False)
        if how == "killed":
            noticed = disturbed.said_at("lost: ") - lost
        # Without a node for it a peer does not come back.
        time.sleep(5)
        rounds = rounds_in(cut)
        time.sleep(3)
        assert rounds_in(cut) == rounds < 60
        nodes.add_node(**NODE)
        assert disturbed.end() == 0, disturbed.output.read_text()
        assert undisturbed.end() == 0, undisturbed.output.read_text()
        disturbed.require_no_traces()
    finally:
        for process in frozen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        disturbed.clean_up()
        undisturbed.clean_up()
    print(f"{how}: noticed after {noticed:.1f} s")
    assert noticed < MOST_SECONDS_TO_NOTICE[how]
    assert interruptions(cut)
    assert outcome(cut) == outcome(whole)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_a_node_that_never_comes_back_the_others_bring_every_round_to_its_end(
    start_nodes: Callable[..., Any], log: Path, tmp_path: Path
) -> None:
    nodes = start_nodes(NODE)
    for _ in range(2):
        nodes.add_node(**NODE)
    run = tmp_path / "run"
    train = ["train", "--data", str(log), "--out", str(run), "--address", nodes.address]
    # The coordinator may be lost with the node, and it has to be back within that time.
    options = f"--epochs 30 {RUN} --peers 3 --rejoin-within 20 --placement strict-spread"
    driver = Watched([*train, *options.split()], tmp_path / "run.txt")
    try:
        driver.said_at("round 3/30")
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        assert driver.end() == 0, driver.output.read_text()
        driver.require_no_traces()
    finally:
        driver.clean_up()
    records = RunFolder(run).rounds()
    assert [record["round"] for record in records] == list(range(1, 31))
    told = [event for record in records for event in record["interruptions"]]
    (left,) = [event for event in told if event.endswith("the others go on without")]
    number = int(left.removeprefix("peer ").partition(" ")[0])
    first = next(record["round"] for record in records if left in record["interruptions"])
    for record in records:
        away = [failure["peer"] for failure in record["failures"] if failure["reason"] == AWAY]
        assert away == ([number] if record["round"] >= first else [])
        # The ring of those who are left is closed.
        givers = {transfer["donor"] for transfer in record["transfers"]}
        assert givers == {1, 2, 3} - set(away)
    assert "test" in RunFolder(run).metrics()
