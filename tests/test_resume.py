"""A run that was interrupted and resumed ends byte for byte like one that was not."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from peercollab.actors.executor import LocalExecutor
from peercollab.actors.messages import PeerSetup
from peercollab.cli import main
from peercollab.errors import LostError, PeercollabError
from peercollab.options import TrainOptions
from peercollab.results.heartbeat import RUNNING, Heartbeat
from peercollab.results.run_folder import RunFolder, read_config
from peercollab.resume import stored_options, stored_peers
from tests.traces import last_words, rounds_in, wait_until

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = "--epochs 4 --hidden-size 8 --batch-size 16 --executor local --min-interactions 1"
NETWORK = "--blocks 1 --max-length 10"

# Each brings something of its own that a peer has to remember.
KINDS = {
    "layer-wise": "",
    "diloco": "--rule diloco --exchange-every 3",
    "soup-of-averages": "--rule average --select greedy-soup --ema 0.999",
    "window": "--rule papa --exchange-every 3 --swa 3",
    "moments": "--rule papa --moments transplant --exchange-every 2",
    "importance": "--criterion importance --augment crop mask",
    "sampled": "--loss sampled --negatives 8 --schedule cosine",
    "of-users": "--model bpr-mf --rule wash",
}


def command_for(log: Path, out: Path, options: str = "") -> list[str]:
    """Small training, of SASRec unless the options name another model."""
    network = "" if "--model" in options else NETWORK
    words = f"{SMALL} {network} {options}".split()
    return ["train", "--data", str(log), "--out", str(out), *words]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users who walk through 20 items."""
    generator = np.random.default_rng(1)
    rows = []
    for user in range(40):
        start = int(generator.integers(20))
        walk = (start + np.cumsum(generator.choice([1, 1, 7], 15))) % 20
        rows += [(f"u{user}", f"i{item}", time) for time, item in enumerate(walk)]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    pd.DataFrame(rows, columns=["user", "item", "time"]).to_csv(path, index=False)
    return path


def run(log: Path, out: Path, options: str = "") -> Path:
    assert main(command_for(log, out, options)) == 0
    return out


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    """Of a record all but what differs from run to run: times, and what went wrong on the way."""
    apart = ("seconds", "coordinator_bytes", "interruptions")
    kept = {key: record[key] for key in record if key not in apart}
    kept["peers"] = [{k: v for k, v in peer.items() if k != "seconds"} for peer in record["peers"]]
    return kept


def outcome(folder: Path) -> dict[str, str]:
    """Digests of all that a run leaves, times apart."""
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".safetensors", ".parquet") or path.name == "metrics.json"
    }
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    return files | {
        f"round {number}": json.dumps(without_times(json.loads(line)))
        for number, line in enumerate(lines, start=1)
    }


def stop_in_round(folder: Path, command: list[str], round: int, number: int) -> None:
    """Start a run and end its process when so many rounds are recorded."""
    process = subprocess.Popen(
        [sys.executable, "-m", "peercollab", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: rounds_in(folder) >= round, process, lambda: last_words(process))
    finally:
        process.send_signal(number)
        process.communicate(timeout=60)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_one_that_went_through(
    kind: str, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within its third round, with whatever the first two left."""
    whole = run(log, tmp_path / "whole", KINDS[kind])

    going_on = LocalExecutor.run_round

    def stopped(self: LocalExecutor, round: int, watch: Any) -> Any:
        record = going_on(self, round, watch)
        if round == 3:
            raise KeyboardInterrupt
        return record

    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "run_round", stopped)
        assert main(command_for(log, tmp_path / "cut", KINDS[kind])) == 130
    assert len((tmp_path / "cut" / "rounds.jsonl").read_text().splitlines()) == 2
    assert main(["train", "--resume", str(tmp_path / "cut")]) == 0
    assert outcome(tmp_path / "cut") == outcome(whole)


def test_a_killed_driver_is_gone_on_with_under_the_other_executor(
    log: Path, tmp_path: Path
) -> None:
    """SIGKILL leaves whatever was being written; threads stay what they were."""
    options = "--hidden-size 64 --threads-per-peer 1"
    whole = run(log, tmp_path / "whole", options)
    cut = tmp_path / "cut"
    stop_in_round(cut, command_for(log, cut, options), 2, signal.SIGKILL)
    assert main(["train", "--resume", str(cut), "--executor", "ray"]) == 0
    assert outcome(cut) == outcome(whole)


def test_what_a_crash_left_behind_is_done_again(log: Path, tmp_path: Path) -> None:
    """A record cut off in the middle, a checkpoint that was not completed, a better model."""
    whole = run(log, tmp_path / "whole")
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    for name in ("metrics.json", "per_user.parquet", "report.html"):
        (cut / name).unlink()
    (cut / "checkpoints" / "round-4" / "manifest.json").unlink()
    (cut / "best" / "model.safetensors").write_bytes(b"nonsense")
    text = (cut / "rounds.jsonl").read_text()
    (cut / "rounds.jsonl").write_text(text[: len(text) - 30])
    assert main(["train", "--resume", str(cut)]) == 0
    assert outcome(cut) == outcome(whole)


def test_more_epochs_go_on_as_if_they_had_been_asked_for(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(log, tmp_path / "whole", "--epochs 6")
    run(log, tmp_path / "short", "--epochs 3")
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "short"), "--epochs", "6"]) == 0
    said = capsys.readouterr().out
    assert "resumed with --epochs 6 in place of 3" in said
    assert "resumed after round 3 of 6" in said
    assert outcome(tmp_path / "short") == outcome(whole)
    assert read_config(tmp_path / "short")["training"]["epochs"] == 6


def test_a_run_that_replaced_another_can_be_gone_on_with(log: Path, tmp_path: Path) -> None:
    whole = run(log, tmp_path / "whole", "--epochs 3")
    again = run(log, tmp_path / "again", "--epochs 2")
    run(log, again, "--epochs 2 --overwrite")
    assert main(["train", "--resume", str(again), "--epochs", "3"]) == 0
    assert outcome(again) == outcome(whole)


def test_ranks_of_an_earlier_end_do_not_outlive_it(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(log, tmp_path / "run", "--epochs 1")

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("peercollab.actors.executor.LocalExecutor.run_round", stopped)
    assert main(["train", "--resume", str(folder), "--epochs", "2"]) == 130
    assert "test" not in json.loads((folder / "metrics.json").read_text())
    assert not (folder / "per_user.parquet").exists()
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(("rounds", "is_lost"), [(0, False), (2, False), (2, True)])
def test_a_driver_whose_run_was_taken_over_leaves_it_alone(
    rounds: int,
    is_lost: bool,
    log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    going_on = LocalExecutor.run_round

    def taken_over(self: LocalExecutor, round: int, watch: Any) -> Any:
        record = going_on(self, round, watch)
        if round == rounds + 1:
            beat = json.loads((folder / RUNNING).read_text())
            (folder / RUNNING).write_text(json.dumps(beat | {"host": "another"}))
            if is_lost:
                raise LostError("peer 1 died")
        return record

    monkeypatch.setattr(LocalExecutor, "run_round", taken_over)
    assert main(command_for(log, folder)) == 2
    said = capsys.readouterr()
    assert "on another has taken the run over" in said.err
    assert json.loads((folder / RUNNING).read_text())["host"] == "another"
    assert "goes on" not in said.out
    assert len(RunFolder(folder).rounds()) == rounds
    assert RunFolder(folder).checkpoints.latest(print) == rounds


def test_a_loss_at_the_end_has_rounds_done_again_that_no_checkpoint_holds(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(log, tmp_path / "whole")
    folder = tmp_path / "run"
    ranking = LocalExecutor.rank_selected
    losses = ["peer 1 died"]

    def lost_once(self: LocalExecutor, hold_out: Any) -> Any:
        if losses:
            (folder / "checkpoints" / "round-4" / "manifest.json").write_text("{")
            raise LostError(losses.pop())
        return ranking(self, hold_out)

    monkeypatch.setattr(LocalExecutor, "rank_selected", lost_once)
    assert main(command_for(log, folder)) == 0
    assert outcome(folder) == outcome(whole)


def test_a_run_is_given_up_that_comes_no_further(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*_: Any) -> Any:
        raise LostError("peer 1 died")

    monkeypatch.setattr(LocalExecutor, "run_round", lost)
    monkeypatch.setattr("peercollab.rounds.MOST_LOSSES", 2)
    assert main(command_for(log, tmp_path / "run")) == 2
    told = "given up: 3 losses since the last checkpoint; the last: peer 1 died"
    assert told in capsys.readouterr().err


def test_without_a_whole_checkpoint_a_loss_ends_the_run(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"

    def lost(*_: Any) -> Any:
        shutil.rmtree(folder / "checkpoints")
        raise LostError("peer 1 died")

    monkeypatch.setattr(LocalExecutor, "run_round", lost)
    assert main(command_for(log, folder)) == 2
    assert "no checkpoint of the run is whole to go back to" in capsys.readouterr().err


def test_before_anything_is_ranked_no_model_is_promised(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    going_on = LocalExecutor.run_round

    def stopped(self: LocalExecutor, round: int, watch: Any) -> Any:
        if round == 2:
            raise KeyboardInterrupt
        return going_on(self, round, watch)

    monkeypatch.setattr(LocalExecutor, "run_round", stopped)
    assert main(command_for(log, tmp_path / "run", "--validate-every 3")) == 130
    said = capsys.readouterr().out
    assert "1 round is complete, and none has been ranked yet; `peercollab train --resume" in said
    assert "recommend" not in said


def test_a_run_goes_on_where_auto_comes_to_other_numbers(log: Path, tmp_path: Path) -> None:
    folder = run(log, tmp_path / "run", "--epochs 2")
    config = read_config(folder)
    here = config["settings"]["numbers"]
    config["settings"]["numbers"] = "those of another machine"
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", str(folder), "--epochs", "3"]) == 0
    assert read_config(folder)["settings"]["numbers"] == here


def test_checkpoints_come_as_often_as_asked(log: Path, tmp_path: Path) -> None:
    whole = run(log, tmp_path / "whole", "--epochs 5 --checkpoint-every 2")
    names = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert names == ["round-4", "round-5"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--lr 0.1", "the run has --lr 0.001, which cannot become 0.1: leave --lr out"),
        ("--peers 3", "the run has --peers 2, which cannot become 3"),
        ("--percent 10 --rule parameter-wise", "--rule layer-wise, which cannot become param"),
        ("--epochs 2", "the run has --epochs 4, and they can only become more"),
        ("--out elsewhere", "leave --out and --overwrite out"),
        ("", "the run has come to its end already; more --epochs would go on with it"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused_by_name(
    change: str,
    message: str,
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = run(log, tmp_path / "run")
    before = outcome(folder)
    capsys.readouterr()
    assert main(["train", "--resume", str(folder), *change.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert outcome(folder) == before


def test_a_schedule_over_all_epochs_cannot_become_longer(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(log, tmp_path / "run", "--schedule cosine")
    assert main(["train", "--resume", str(folder), "--epochs", "9"]) == 2
    assert "--schedule cosine is spread over them" in capsys.readouterr().err


def test_other_data_are_refused(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.csv"
    shutil.copy(log, own)
    folder = run(own, tmp_path / "run")
    with own.open("a") as file:
        file.write("u1,i3,99\n")
    assert main(["train", "--resume", str(folder), "--epochs", "5"]) == 2
    assert "does not hold what the run began with" in capsys.readouterr().err
    # The file of then may lie elsewhere now.
    assert main(["train", "--resume", str(folder), "--epochs", "5", "--data", str(log)]) == 0


def test_without_a_whole_checkpoint_nothing_is_resumed(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(log, tmp_path / "run")
    for round in (3, 4):
        state = folder / "checkpoints" / f"round-{round}" / "peer-1.safetensors"
        state.write_bytes(state.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["train", "--resume", str(folder), "--epochs", "5"]) == 2
    told = capsys.readouterr()
    assert "round-4: peer-1.safetensors has" in told.out
    assert "no checkpoint of the run is whole" in told.err


def test_options_and_peers_come_back_from_their_file(log: Path, tmp_path: Path) -> None:
    folder = run(log, tmp_path / "run", "--augment crop mask --exchange-every 5 --lr 0.01")
    options = stored_options(folder)
    assert isinstance(options, TrainOptions)
    assert options.diversity.augment == ("crop", "mask")
    assert options.transplant.exchange_every == 5
    assert options.folder == folder
    peers = stored_peers(read_config(folder), folder)
    assert isinstance(peers[1], PeerSetup)
    assert peers[1].augmentation.kind == "mask"


def test_the_configuration_of_another_version_is_told_as_that(log: Path, tmp_path: Path) -> None:
    folder = run(log, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["training"]["warmth"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PeercollabError, match=r"another version .*\(warmth is not known\)"):
        stored_options(folder)


def test_a_folder_that_peers_do_not_see_is_refused(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peercollab.actors.peer import Peer

    def elsewhere(self: Peer, path: Path) -> str | None:
        return None if self.number == 2 else path.read_text()

    monkeypatch.setattr(Peer, "read", elsewhere)
    command = command_for(log, tmp_path / "run")
    assert main(command) == 2
    assert "peer 2 does not see the folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_that_came_first_is_neither_replaced_nor_removed(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from peercollab import run as module

    prepare = module.popularity_ranks
    out = tmp_path / "run"

    def prepare_slowly(*arguments: Any, **options: Any) -> Any:
        """Meanwhile another driver makes the folder, and ends."""
        monkeypatch.setattr(module, "popularity_ranks", prepare)
        run(log, out)
        return prepare(*arguments, **options)

    monkeypatch.setattr(module, "popularity_ranks", prepare_slowly)
    command = command_for(log, out)
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert len((out / "rounds.jsonl").read_text().splitlines()) == 4
    assert "test" in json.loads((out / "metrics.json").read_text())


def test_what_a_killed_driver_could_not_put_down_is_told_by_the_next(
    log: Path, tmp_path: Path
) -> None:
    folder = run(log, tmp_path / "run")
    rounds = folder / "rounds.jsonl"
    records = [json.loads(line) for line in rounds.read_text().splitlines()]
    records[1]["interruptions"] = ["peer 1 died"]
    rounds.write_text("".join(json.dumps(record) + "\n" for record in records))
    with Heartbeat(folder, lambda: ["peer 1 died", "peer 2 died"]):
        beat = json.loads((folder / RUNNING).read_text())
    (folder / RUNNING).write_text(json.dumps(beat | {"started": -1.0}))
    assert main(["train", "--resume", str(folder), "--epochs", "5"]) == 0
    records = [json.loads(line) for line in rounds.read_text().splitlines()]
    assert [record["interruptions"] for record in records] == [
        [],
        ["peer 1 died"],
        [],
        [],
        ["peer 2 died", "resumed after round 4"],
    ]


def test_no_code_is_run_that_a_folder_alone_names(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule, trace = tmp_path / "own.py", tmp_path / "trace"
    rule.write_text("def halfway(W, V, alpha):\n    return (W + V) / 2\n")
    folder = run(log, tmp_path / "run", f"--rule {rule}:halfway")
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(trace)!r}, 'w')\n\ndef halfway(W, V, alpha):\n    return W\n")
    config = read_config(folder)
    config["transplant"]["rule"] = f"{evil}:halfway"
    (folder / "config.json").write_text(json.dumps(config))
    resume = ["train", "--resume", str(folder), "--epochs", "5"]
    capsys.readouterr()
    for own in ([], ["--rule", f"{rule}:halfway"]):
        assert main([*resume, *own]) == 2
        assert f"give --rule {evil}:halfway again if that is yours" in capsys.readouterr().err
        assert not trace.exists()
    config["transplant"]["rule"] = f"{rule}:halfway"
    (folder / "config.json").write_text(json.dumps(config))
    assert main(resume) == 2
    assert main([*resume, "--rule", f"{rule}:halfway"]) == 0


def test_where_it_ran_is_no_part_of_a_run(log: Path, tmp_path: Path) -> None:
    folder = run(log, tmp_path / "run", "--peers 4")
    config = read_config(folder)
    config["execution"] |= {
        "executor": "ray",
        "address": "10.1.2.3:6379",
        "placement": "spread",
        "wait_for_resources": 5.0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    resume = ["train", "--resume", str(folder), "--executor", "local", "--min-peers", "3"]
    assert main([*resume, "--epochs=5"]) == 0
    assert len((folder / "rounds.jsonl").read_text().splitlines()) == 5
