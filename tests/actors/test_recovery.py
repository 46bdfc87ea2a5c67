"""Peers and coordinators that are killed come back, and nothing of it is seen in the end."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import psutil
import pytest

from peercollab.actors.options import ExecutionOptions
from peercollab.data.demo import demo_interactions, write_csv
from peercollab.errors import PeercollabError
from peercollab.models.options import ModelOptions
from peercollab.options import TrainOptions
from peercollab.run import train
from peercollab.training.options import TrainingOptions
from tests.test_resume import outcome

pytestmark = pytest.mark.usefixtures("ray_cluster")


def options(out: Path, data: Path, epochs: int = 3, **execution: Any) -> TrainOptions:
    return TrainOptions(
        out=out,
        data=str(data),
        model=ModelOptions(hidden_size=8, blocks=1, max_length=20),
        training=TrainingOptions(epochs=epochs, batch_size=16),
        execution=ExecutionOptions(threads_per_peer=1, **execution),
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "demo.csv"
    write_csv(demo_interactions(), path)
    return path


def undisturbed(log: Path, tmp_path: Path, epochs: int = 3, **execution: Any) -> Path:
    """The folder of a run that nothing happens to; without actors, which comes to the same."""
    local = options(tmp_path / "whole", log, epochs, executor="local", **execution)
    return train(local).folder


class Killer(threading.Thread):
    """Kills actors of a run, one after another, each at a random moment."""

    def __init__(self, victims: list[str], seed: int) -> None:
        super().__init__(daemon=True)
        self.victims = victims
        self.random = random.Random(seed)
        self.killed: list[str] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        for victim in self.victims:
            if self.is_over.wait(self.random.uniform(0.2, 1.5)):
                return
            # While it is being made again there is none.
            while not self.is_over.wait(0.05):
                if found := processes_of(victim):
                    self.random.choice(found).kill()
                    self.killed.append(victim)
                    break


def processes_of(kind: str) -> list[psutil.Process]:
    """Processes of actors of this class, in the cluster of this test session alone."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "".join(process.cmdline()[:1]).startswith(f"ray::{kind}"):
                found.append(process)
    return found


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a killer with the next run's rounds."""
    from peercollab.actors.ray_executor import RayExecutor

    killers: list[Killer] = []
    first_round = RayExecutor.run_round

    def run_round(self: RayExecutor, round: int, watch: Any) -> Any:
        for killer in killers:
            if killer.ident is None and round > 1:
                killer.start()
        return first_round(self, round, watch)

    def start(victims: list[str], seed: int = 1) -> Killer:
        monkeypatch.setattr(RayExecutor, "run_round", run_round)
        killers.append(Killer(victims, seed))
        return killers[-1]

    yield start
    for killer in killers:
        killer.is_over.set()
        if killer.is_alive():
            killer.join(timeout=90)


def require_undisturbed(
    victims: list[str], epochs: int, log: Path, tmp_path: Path, killing: Any
) -> None:
    whole = undisturbed(log, tmp_path, epochs)
    killer = killing(victims)
    disturbed = train(options(tmp_path / "disturbed", log, epochs))
    assert killer.killed == victims
    assert outcome(disturbed.folder) == outcome(whole)
    told = [reason for record in disturbed.rounds for reason in record["interruptions"]]
    assert len(told) >= 1
    written = (disturbed.folder / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["interruptions"] for line in written] == [
        record["interruptions"] for record in disturbed.rounds
    ]


def test_a_killed_peer_and_a_killed_coordinator_come_back(
    log: Path, tmp_path: Path, killing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    require_undisturbed(["PeerActor", "CoordinatorActor"], 8, log, tmp_path, killing)
    said = capsys.readouterr().out
    assert "lost: peer" in said or "lost: the coordinator" in said
    assert "all go back to the end of round" in said


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_killed_at_random_moments_leave_no_trace(
    log: Path, tmp_path: Path, killing: Any
) -> None:
    victims = [("PeerActor", "PeerActor", "CoordinatorActor")[i % 3] for i in range(18)]
    require_undisturbed(victims, 40, log, tmp_path, killing)


@pytest.mark.slow
def test_a_peer_that_stays_away_stops_the_run_which_can_be_resumed(
    log: Path, tmp_path: Path, killing: Any
) -> None:
    whole = undisturbed(log, tmp_path, 6)
    killing(["PeerActor"])
    with pytest.raises(PeercollabError, match=r"did not come back within --rejoin-within 0 s"):
        train(options(tmp_path / "cut", log, 6, rejoin_within=0.0))
    resumed = train(
        TrainOptions(
            resume=tmp_path / "cut",
            data=str(log),
            model=ModelOptions(hidden_size=8, blocks=1, max_length=20),
            training=TrainingOptions(epochs=6, batch_size=16),
            execution=ExecutionOptions(threads_per_peer=1),
        )
    )
    assert outcome(resumed.folder) == outcome(whole)


def test_a_coordinator_that_never_answers_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import GetTimeoutError

    from peercollab.actors import ray_executor

    def silent(*_: Any, **__: Any) -> None:
        raise GetTimeoutError("nothing came")

    executor = object.__new__(ray_executor.RayExecutor)
    executor._options = ExecutionOptions(rejoin_within=0.0)
    executor._coordinator = SimpleNamespace(__ray_ready__=MagicMock())
    monkeypatch.setattr("ray.get", silent)
    with pytest.raises(PeercollabError, match=r"the coordinator did not come back .*nothing came"):
        executor._await_coordinator(deadline=0.0)
