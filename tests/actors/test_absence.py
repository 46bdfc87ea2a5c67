"""Peers that are away, hang or are told to stop, and coordinators that are gone.

./scripts/test tests/actors/test_absence.py
"""

import json
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peercollab.actors.coordinator import AWAY, Coordinator
from peercollab.actors.group import LocalPeers
from peercollab.actors.messages import PeerProgress, PeerSetup, Phase, SharedSetup
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.peer import Peer
from peercollab.data.sequences import Histories
from peercollab.errors import LostError, PeercollabError
from peercollab.models.saved import save_weights
from peercollab.results.report import write_report
from peercollab.run import train
from peercollab.transplant.options import TransplantOptions
from tests.actors.test_recovery import killing as killing
from tests.actors.test_recovery import log as log
from tests.actors.test_recovery import options, processes_of, undisturbed
from tests.test_resume import outcome
from tests.traces import SECONDS_TO_BEGIN

CPU = torch.device("cpu")
MakeShared = Callable[..., SharedSetup]


def three(shared: SharedSetup, histories: Histories) -> LocalPeers:
    return LocalPeers([Peer(PeerSetup(n, n, 1e-3 * n), shared, histories, CPU) for n in (1, 2, 3)])


def weights_of(peer: Peer) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in peer.weights().items()}


@pytest.mark.parametrize("rule", ["diloco", "average"])
def test_a_peer_that_was_away_goes_on_with_the_others(
    rule: str, make_shared: MakeShared, histories: Histories, tmp_path: Path
) -> None:
    shared = make_shared(TransplantOptions(rule=rule), epochs=4)
    peers = three(shared, histories)
    coordinator = Coordinator(peers, shared.transplant, shared.training)
    coordinator.run_round(1)
    coordinator.checkpoint(tmp_path)
    coordinator.restore(tmp_path, None, present=[0, 2])
    before = weights_of(peers.peers[1])
    coordinator.run_round(2)
    assert all((before[n] == own).all() for n, own in weights_of(peers.peers[1]).items())
    coordinator.checkpoint(tmp_path)  # The files of the second peer are still those of round 1.
    coordinator.restore(tmp_path, None, present=[0, 1, 2])
    coordinator.run_round(3)
    one, two, three_ = map(weights_of, peers.peers)
    are_equal = all((one[n] == two[n]).all() and (one[n] == three_[n]).all() for n in one)
    # Under diloco all peers hold the same weights at the end of every round, or it has failed.
    assert are_equal == (rule == "diloco")


def test_a_halted_peer_gives_its_work_up_until_it_is_restored(
    make_shared: MakeShared, histories: Histories, tmp_path: Path
) -> None:
    shared = make_shared(TransplantOptions())
    peer = Peer(PeerSetup(1, 1, 1e-3), shared, histories, CPU)
    peer.settle()
    peer.checkpoint(tmp_path)
    peer.halt()
    with pytest.raises(LostError, match="peer 1 gave its work up"):
        peer.train(1, peer.steps())
    assert peer.restore(tmp_path) == 0
    assert peer.train(1, peer.steps()) is None
    assert peer.progress().step == peer.steps()


def test_a_peer_is_at_work_in_every_stretch_of_steps(
    make_shared: MakeShared, histories: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = make_shared(TransplantOptions(rule="sparta"))
    peers = [Peer(PeerSetup(n, n, 1e-3), shared, histories, CPU) for n in (1, 2)]
    (first, *_), train_to = peers, peers[0].trainer.train_to
    seen = []

    def watched(*arguments: Any) -> Any:
        seen.append((first.progress().phase, first.progress().round))
        return train_to(*arguments)

    monkeypatch.setattr(first.trainer, "train_to", watched)
    coordinator = Coordinator(LocalPeers(peers), shared.transplant, shared.training)
    for round in (1, 2):
        coordinator.run_round(round)
    assert seen == [("train", round) for round in (1, 2) for _ in range(first.steps())]
    assert first.progress().phase == "exchange"
    save_weights(first.trainer.model.state_dict(), shared.best)
    first.rank_selected("test")
    assert first.progress().phase == "wait"


def test_ranking_tells_how_far_it_is(make_shared: MakeShared, histories: Histories) -> None:
    shared = make_shared(TransplantOptions())
    peer = Peer(PeerSetup(1, 1, 1e-3), shared, histories, CPU)
    peer.train(1, peer.steps())
    told = []
    peer._on_progress = lambda: told.append(peer.progress())
    peer.rank(1)
    users = [(of.step, of.steps) for of in told if of.phase == "rank"][1:]
    assert users[-1][0] == users[-1][1] > 0


@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_refuses_calls_of_another_term(
    make_shared: MakeShared, histories: Histories, tmp_path: Path
) -> None:
    import ray
    from ray import cloudpickle

    from peercollab.actors.ray_executor import PeerActor

    where = cloudpickle.dumps(histories_at := ray.put(histories))
    assert histories_at is not None
    shared = make_shared(TransplantOptions())
    actor = ray.remote(concurrency_groups={"control": 1})(PeerActor)
    peer = actor.options(num_cpus=0.5).remote(PeerSetup(1, 1, 1e-3), shared, where, False)
    try:
        ray.get([peer.settle.remote(term=0), peer.checkpoint.remote(tmp_path, term=0)])
        assert ray.get(peer.restore_for.remote(1, tmp_path)) == 0
        with pytest.raises(LostError, match="before the run was taken back"):
            ray.get(peer.train.remote(1, 1, term=0))
        assert ray.get(peer.train.remote(1, 1, term=1)) is None
    finally:
        ray.kill(peer)


class Standing:
    """An actor that is at a step, and stays there until it is told another."""

    def __init__(self) -> None:
        self.now = PeerProgress(1, 1, 0, 10, math.nan, "train")

    def progress(self) -> PeerProgress:
        return self.now

    def be(self, step: int, phase: Phase) -> None:
        self.now = PeerProgress(1, 1, step, 10, math.nan, phase)


@pytest.mark.usefixtures("ray_cluster")
def test_a_peer_that_answers_and_does_not_go_on_is_noticed() -> None:
    import ray

    from peercollab.actors.vigil import Vigil

    actor = ray.remote(concurrency_groups={"control": 1})(Standing).options(num_cpus=0).remote()
    try:
        ray.get(actor.__ray_ready__.remote())
        vigil = Vigil({"peer 1": actor})

        def still_after(seconds: float) -> list[str]:
            (seen,) = vigil.look(60)
            assert seen.peer == 1
            time.sleep(seconds)
            vigil.look(60)
            return vigil.still(seconds)

        assert still_after(0.3) == ["peer 1"]
        ray.get(actor.be.remote(1, "train"))
        vigil.look(60)
        assert vigil.still(60) == []
        # It waits for others.
        ray.get(actor.be.remote(1, "exchange"))
        assert still_after(0.3) == []
    finally:
        ray.kill(actor)


def test_options_that_cannot_be() -> None:
    with pytest.raises(PeercollabError, match=r"--min-peers is 3: give 1 up to --peers"):
        ExecutionOptions(peers=2, min_peers=3)
    for seconds in (0, math.inf, math.nan):
        with pytest.raises(PeercollabError, match=rf"--peer-timeout is {seconds}: give seconds"):
            ExecutionOptions(peer_timeout=seconds)
    assert [ExecutionOptions(peers=n).least_peers for n in (1, 2, 5)] == [1, 2, 2]
    assert ExecutionOptions(peers=5, min_peers=4).least_peers == 4


def await_start(handle: Any) -> None:
    """Wait until an actor that is made again is there."""
    import ray

    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while time.monotonic() < deadline:
        with suppress(ray.exceptions.RayError):
            ray.get(handle.__ray_ready__.remote(), timeout=SECONDS_TO_BEGIN)
            return
    raise AssertionError("it was not made again")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_while_a_peer_is_away_the_others_go_on_and_it_joins_them_again(
    log: Path,
    tmp_path: Path,
    killing: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peercollab.actors.ray_executor import RayExecutor

    killer = killing(["PeerActor"])
    going_on: Callable[..., Any] = RayExecutor.run_round
    rounds_without: list[int] = []

    def run_round(self: RayExecutor, round: int, watch: Any) -> Any:
        """From the third round without it on, wait until the process of the lost one is there."""
        rounds_without.extend(self._muster.away)
        if len(rounds_without) >= 3:
            for place in self._muster.away:
                await_start(self._muster.handles[place])
        return going_on(self, round, watch)

    monkeypatch.setattr(RayExecutor, "run_round", run_round)
    result = train(options(tmp_path / "run", log, 20, peers=3, rejoin_within=0.0))
    assert killer.killed == ["PeerActor"]
    assert [record["round"] for record in result.rounds] == list(range(1, 21))
    away = [record["failures"] for record in result.rounds if record["failures"]]
    assert 1 <= len(away) < 18
    assert all(f["reason"] == AWAY and f["step"] == 0 for failures in away for f in failures)
    told = [event for record in result.rounds for event in record["interruptions"]]
    assert "died" in told[0] or "made again" in told[0]
    assert "did not come back within --rejoin-within 0 s: the others go on without" in told[1]
    assert told[-1].endswith("came back")
    # In the last round all are there again.
    assert all(report["validation"] for report in result.rounds[-1]["peers"])
    assert 0 < result.metrics["test"]["ndcg@10"] <= 1
    said = capsys.readouterr().out
    assert all(event in said for event in told)
    report = write_report(result.folder).read_text(encoding="utf-8")
    assert AWAY in report
    assert "the others go on without" in report


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_with_too_few_peers_the_run_stops_and_can_be_resumed(
    log: Path, tmp_path: Path, killing: Any
) -> None:
    killing(["PeerActor"])
    wanted = options(tmp_path / "run", log, 20, peers=3, rejoin_within=0.0, min_peers=3)
    with pytest.raises(PeercollabError, match=r"which leaves 2, fewer than --min-peers 3"):
        train(wanted)
    last = json.loads((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()[-1])
    assert last["interruptions"][-1].startswith("peer ")
    whole = undisturbed(log, tmp_path, 20, peers=3)
    resumed = train(replace(wanted, out=None, resume=tmp_path / "run"))
    assert outcome(resumed.folder) == outcome(whole)


@pytest.fixture
def stopping() -> Iterator[Callable[[str], None]]:
    """Stops an actor's process in some work, as one hangs in a driver or in a lost file system."""
    stopped: list[int] = []

    def stop(work: str) -> None:
        deadline = time.monotonic() + 240
        while not stopped and time.monotonic() < deadline:
            for process in processes_of(work)[:1]:
                os.kill(process.pid, signal.SIGSTOP)
                stopped.append(process.pid)
            time.sleep(0.01)

    yield lambda work: threading.Thread(target=stop, args=(work,), daemon=True).start()
    assert stopped, "nobody was at that work"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    "work", ["PeerActor.train", "PeerActor.rank_selected", "CoordinatorActor.run_round"]
)
def test_an_actor_that_hangs_is_ended_and_comes_back(
    work: str, log: Path, tmp_path: Path, stopping: Callable[[str], None]
) -> None:
    whole = undisturbed(log, tmp_path, 4)
    stopping(work)
    result = train(options(tmp_path / "run", log, 4, peer_timeout=4.0))
    told = [event for record in result.rounds for event in record["interruptions"]]
    assert "made no progress for 4 s (--peer-timeout): ended" in told[0]
    assert outcome(result.folder) == outcome(whole)


@pytest.fixture
def stumbling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the second peer raise in its second round, so many times."""
    from peercollab.actors import ray_executor
    from peercollab.training.trainer import Epoch

    left = tmp_path / "left"

    class Stumbling(ray_executor.PeerActor):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.train_to = self.trainer.train_to
            self.trainer.train_to = self.stumble  # type: ignore[assignment, method-assign]

        def stumble(self, *arguments: Any) -> Epoch:
            if self.number == 2 and self._round == 2 and (times := int(left.read_text())):
                left.write_text(str(times - 1))
                raise RuntimeError("out of luck\nException raised from luck at luck.cpp:7")
            return self.train_to(*arguments)

    def times(number: int) -> None:
        left.write_text(str(number))
        monkeypatch.setattr(ray_executor, "PeerActor", Stumbling)

    return times


@pytest.mark.usefixtures("ray_cluster")
def test_a_round_in_which_a_peer_raised_is_done_again(
    log: Path, tmp_path: Path, stumbling: Callable[[int], None]
) -> None:
    whole = undisturbed(log, tmp_path)
    stumbling(1)
    result = train(options(tmp_path / "run", log))
    told = [event for record in result.rounds for event in record["interruptions"]]
    (event,) = told
    assert re.fullmatch(
        r"peer 2 failed in train, round 2 after step 0 of \d+: RuntimeError: out of luck", event
    )
    assert outcome(result.folder) == outcome(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_peer_that_raises_again_and_again_ends_the_run_which_can_be_resumed(
    log: Path, tmp_path: Path, stumbling: Callable[[int], None]
) -> None:
    whole = undisturbed(log, tmp_path)
    stumbling(2)
    message = r"^peer 2 failed in train, round 2 .*: RuntimeError: out of luck: it did so twice.*$"
    with pytest.raises(PeercollabError, match=message):
        train(options(tmp_path / "run", log))
    again = replace(options(tmp_path / "run", log), out=None, resume=tmp_path / "run")
    assert outcome(train(again).folder) == outcome(whole)
