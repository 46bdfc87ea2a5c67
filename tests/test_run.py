"""Whole runs on a small log: what they leave, and that every option changes something."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch

from peercollab.actors.messages import PeerSetup
from peercollab.actors.options import ExecutionOptions
from peercollab.cli import main
from peercollab.models.options import ModelOptions
from peercollab.options import TrainOptions
from peercollab.results.checkpoint import peer_tree, read_tree
from peercollab.results.report import write_report
from peercollab.rounds import RunResult
from peercollab.run import load, train
from peercollab.training.options import TrainingOptions
from peercollab.transplant.options import RULES, TransplantOptions

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = "--executor local --epochs 2 --hidden-size 8 --blocks 1 --max-length 10 --batch-size 16"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 users who walk through 40 items; two rare items, and users of few interactions."""
    generator = np.random.default_rng(1)
    rows = []
    for user in range(60):
        length = int(generator.integers(4, 25))
        steps = generator.choice([1, 1, 1, 7], length)
        # Some items come again, so that filtering seen ones makes a difference.
        items = (int(generator.integers(40)) + np.cumsum(steps)) % 40
        rows += [(f"u{user}", f"i{item}", time) for time, item in enumerate(items)]
    rows += [("u0", "rare", 90), ("u1", "rare", 91), ("u2", "rarer", 92)]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    pd.DataFrame(rows, columns=["user", "item", "time"]).to_csv(path, index=False)
    return path


def run(log: Path, out: Path, options: str = "") -> Path:
    command = ["train", "--data", str(log), "--out", str(out), *SMALL.split(), *options.split()]
    assert main(command) == 0
    return out


def outcome(folder: Path) -> str:
    """A digest of all that a run came to, times apart."""
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for record in rounds:
        del record["seconds"]
        for peer in record["peers"]:
            del peer["seconds"]
    metrics = json.loads((folder / "metrics.json").read_text())
    weights = (folder / "best" / "model.safetensors").read_bytes()
    return hashlib.sha256(json.dumps([rounds, metrics]).encode() + weights).hexdigest()


@pytest.fixture(scope="module")
def plain(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(log, tmp_path_factory.mktemp("runs") / "plain")


def test_a_run_leaves_what_it_promises(plain: Path) -> None:
    assert {path.name for path in plain.iterdir()} == {
        "config.json",
        "environment.json",
        "rounds.jsonl",
        "metrics.json",
        "per_user.parquet",
        "report.html",
        "best",
        "checkpoints",
    }
    assert {path.name for path in (plain / "best").iterdir()} == {
        "model.safetensors",
        "model.json",
        "items.parquet",
    }
    metrics = json.loads((plain / "metrics.json").read_text())
    assert metrics.keys() == {"validation", "test", "popularity", "selected"}
    names = {f"{metric}@{k}" for metric in ("hr", "mrr", "ndcg") for k in (5, 10, 20)}
    for of in (metrics["validation"], metrics["test"], *metrics["popularity"].values()):
        assert of.keys() == names
    config = json.loads((plain / "config.json").read_text())
    assert config["layout"]["user_column"] == "user"


def test_the_selected_state_is_the_best_on_validation(plain: Path) -> None:
    records = [json.loads(line) for line in (plain / "rounds.jsonl").read_text().splitlines()]
    metrics = json.loads((plain / "metrics.json").read_text())
    values = [peer["validation"]["ndcg@10"] for record in records for peer in record["peers"]]
    assert len(records) == 2
    assert metrics["validation"]["ndcg@10"] == max(values)
    assert metrics["selected"]["ndcg@10"] == max(values)


def test_ranks_of_users_average_to_the_metrics(plain: Path) -> None:
    frame = pd.read_parquet(plain / "per_user.parquet")
    metrics = json.loads((plain / "metrics.json").read_text())
    assert frame["rank"].isna().any()
    for split in ("validation", "test"):
        ranks = frame.loc[frame["split"] == split, "rank"]
        gains = np.where(ranks.fillna(99) <= 10, 1 / np.log2(ranks.astype(float) + 1), 0)
        assert gains.mean() == pytest.approx(metrics[split]["ndcg@10"])
        assert frame.loc[frame["split"] == split, "user"].is_unique


def test_the_same_command_gives_the_same_bytes(log: Path, plain: Path, tmp_path: Path) -> None:
    assert outcome(run(log, tmp_path / "again")) == outcome(plain)


def test_the_order_of_rows_changes_nothing(log: Path, plain: Path, tmp_path: Path) -> None:
    shuffled = tmp_path / "shuffled.csv"
    pd.read_csv(log).sample(frac=1, random_state=4).to_csv(shuffled, index=False)
    assert outcome(run(shuffled, tmp_path / "run")) == outcome(plain)


@pytest.mark.parametrize(
    "option",
    [
        "--epochs 3",
        "--lr 0.01",
        "--batch-size 8",
        "--weight-decay 0.1",
        "--loss sampled --negatives 20",
        "--loss gbce",
        "--precision bf16",
        "--schedule cosine",
        "--no-lr-spread",
        "--seed 11",
        "--init shared",
        "--keep-seen",
        "--validate-every 2",
        "--hidden-size 16",
        "--blocks 2",
        "--heads 2",
        "--norm before",
        "--final-norm",
        "--projection",
        "--activation gelu",
        "--tied",
        "--tied --loss sampled --negatives 8",
        "--dropout 0",
        "--max-length 5",
        "--peers 3",
        "--rule none",
        "--rule average",
        "--rule parameter-wise",
        "--rule parameter-wise --percent 20",
        "--layers embedding",
        "--layers middle",
        "--layers final",
        "--criterion l1-norm",
        "--criterion l2-norm",
        "--bins 20",
        "--steepness 2",
        "--weighting arctan",
        "--weighting arctan --amplitude 0.9",
        "--weighting arctan --slope 5",
        "--rule noise",
        "--rule papa",
        "--rule papa --select best",
        "--rule papa --factor 0.9",
        "--rule wash",
        "--rule sparta",
        "--rule diloco",
        "--peers 3 --donors best",
        "--criterion importance",
        "--exchange-every 3",
        "--exchange-until 0.6",
        "--moments transplant",
        "--moments reset",
        "--align",
        "--select uniform-soup",
        "--select greedy-soup --init shared --lr 0.01",
        "--ema 0.9",
        "--swa 2",
        "--dropout-spread 0.1",
        "--augment crop",
        "--augment mask",
        "--augment none reorder",
        "--min-interactions 7",
        "--min-interactions 7 --filter-once",
        "--item-column time --time-column time --min-interactions 1",
    ],
)
def test_every_option_changes_the_outcome(
    option: str, log: Path, plain: Path, tmp_path: Path
) -> None:
    assert outcome(run(log, tmp_path / "run", option)) != outcome(plain)


@pytest.mark.parametrize(
    ("option", "base"),
    [
        ("--augment crop --augment-share 0.4", "--augment crop"),
        ("--augment mask --augment-share 0.4", "--augment mask"),
        ("--loss sampled --negatives 20", "--loss sampled"),
        ("--loss gbce --calibration 0.1", "--loss gbce"),
        ("--exchange-every 3 --exchange-from 0.5", "--exchange-every 3"),
        ("--augment reorder --augment-share 0.9", "--augment reorder"),
        ("--ema 0.9", "--ema 0.5"),
        ("--epochs 3 --swa 3", "--epochs 3 --swa 2"),
        ("--rule diloco --layers final", "--rule diloco"),
        ("--rule wash --select best", "--rule wash"),
        ("--rule wash --init own", "--rule wash"),
        ("--rule papa --schedule cosine --factor 0.5", "--rule papa --factor 0.5"),
    ],
)
def test_an_option_of_an_option_changes_the_outcome(
    option: str, base: str, log: Path, tmp_path: Path
) -> None:
    assert outcome(run(log, tmp_path / "one", option)) != outcome(run(log, tmp_path / "two", base))


def test_a_soup_says_what_is_in_it(log: Path, tmp_path: Path) -> None:
    folder = run(log, tmp_path / "run", "--peers 3 --rule wash --lr 0.01")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["selected"]["select"] == "uniform-soup"
    assert {best["peer"] for best in metrics["selected"]["ingredients"]} == {1, 2, 3}
    assert metrics["selected"]["ndcg@10"] == metrics["validation"]["ndcg@10"]
    frame = pd.read_parquet(folder / "per_user.parquet")
    for split in ("validation", "test"):
        ranks = frame.loc[frame["split"] == split, "rank"]
        assert (ranks.fillna(99) <= 10).mean() == pytest.approx(metrics[split]["hr@10"])
    report = (folder / "report.html").read_text()
    assert "a uniform-soup, the average of peer" in report


def test_what_rule_and_model_bring_along_is_written_down(log: Path, tmp_path: Path) -> None:
    folder = run(log, tmp_path / "run", "--rule diloco --select greedy-soup")
    settings = json.loads((folder / "config.json").read_text())["settings"]
    assert settings == {
        "init": "shared",
        "exchange_every": 500,
        "ranked": "after",
        "moments": "keep",
        "select": "greedy-soup",
        "batch_size": 16,
        "loss": "full",
        "targets": "every",
        "numbers": "fp32 (bf16 was measured slower on a CPU)",
    }


def test_the_numbers_are_said_and_stored(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(log, tmp_path / "run", "--precision bf16")
    assert "numbers: bf16 (asked for)\n" in capsys.readouterr().out
    settings = json.loads((folder / "config.json").read_text())["settings"]
    assert settings["numbers"] == "bf16 (asked for)"


def test_a_rule_of_ones_own_runs_and_is_stored(log: Path, plain: Path, tmp_path: Path) -> None:
    source = "def swap(own, donor, keep):\n    return donor\n"
    (tmp_path / "rules.py").write_text(source)
    folder = run(log, tmp_path / "run", f"--rule {tmp_path / 'rules.py'}:swap")
    assert outcome(folder) != outcome(plain)
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["source"] == source
    for line in (folder / "rounds.jsonl").read_text().splitlines():
        record = json.loads(line)
        for transfer in record["transfers"]:
            # All was taken, whatever layer-wise would have proposed.
            assert list(transfer["shares"].values()) == [pytest.approx(1.0)] * len(record["layers"])


@pytest.mark.parametrize("when", ["before the training", "at an exchange"])
def test_a_rule_of_ones_own_that_goes_wrong_leaves_no_folder(
    when: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # It is tried with a share of a half.
    cut = "own[:2]" if when == "before the training" else "own if keep == 0.5 else own[:2]"
    (tmp_path / "rules.py").write_text(f"def cut(own, donor, keep):\n    return {cut}\n")
    command = ["train", "--data", str(log), "--out", str(tmp_path / "run"), *SMALL.split()]
    assert main([*command, "--rule", f"{tmp_path / 'rules.py'}:cut"]) == 2
    out, error = capsys.readouterr()
    assert "gave shape (2, 8) for item_embedding.weight, which has (40, 8)" in error
    assert len(error.strip().splitlines()) == 1
    assert ("numbers: " in out) == (when == "at an exchange")
    assert not (tmp_path / "run").exists()


def test_a_peer_that_is_lost_is_named_in_log_record_and_report(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = TrainOptions(
        out=tmp_path / "run",
        data=str(log),
        model=ModelOptions(hidden_size=8, max_length=10),
        training=TrainingOptions(epochs=2),
        execution=ExecutionOptions(executor="local"),
    )
    result = train(options, peers=[PeerSetup(1, 1, 1e-3), PeerSetup(2, 2, 1e30)])
    assert "peer 2 sat round 1 out: " in capsys.readouterr().out
    assert [r["failures"][0]["peer"] for r in result.rounds] == [2, 2]
    assert result.metrics["selected"]["peer"] == 1
    assert "Peers that sat a round out" in write_report(result.folder).read_text()


Short = Callable[[str, Literal["own", "shared"]], RunResult]


@pytest.fixture(scope="module")
def on_ml_100k(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Short:
    """Two epochs of two small peers under a rule, with their own starts or a shared one."""
    model = ModelOptions(hidden_size=8, blocks=1, max_length=20)
    options = TrainOptions(
        out=tmp_path_factory.mktemp("runs"),
        data=str(real_data / "ml-100k.inter"),
        model=model,
        execution=ExecutionOptions(executor="local"),
    )
    loaded = load(options)

    @cache
    def trained(rule: str, init: Literal["own", "shared"]) -> RunResult:
        told = replace(
            options,
            out=options.folder / f"{rule}-{init}",
            # Faster than over all items, as only the exchanges are looked at.
            training=TrainingOptions(epochs=2, init=init, loss="sampled", negatives=16),
            transplant=TransplantOptions(rule=rule),
        )
        return train(told, loaded=loaded)

    return trained


@pytest.mark.real_data
@pytest.mark.parametrize(
    "rule", ["layer-wise", "parameter-wise", "average", "noise", "papa", "wash", "sparta", "diloco"]
)
def test_every_rule_changes_the_weights_of_a_short_run(rule: str, on_ml_100k: Short) -> None:
    init: Literal["own", "shared"] = (
        "shared" if TransplantOptions(rule=rule).build().rule.shared_start else "own"
    )
    mixed, apart = on_ml_100k(rule, init), on_ml_100k("none", init)
    # The last round is compared: whatever an exchange changes shows in the losses after it.
    last = zip(mixed.rounds[-1]["peers"], apart.rounds[-1]["peers"], strict=True)
    assert all(own["loss"] != its["loss"] for own, its in last)
    # 42 steps an epoch: every ten of them, every one, or at the end alone.
    exchanges = {"papa": 4, "wash": 42, "sparta": 42}.get(rule, 1)
    assert [record["exchanges"] for record in mixed.rounds] == [exchanges] * 2
    for number in (1, 2):
        own, its = (
            read_tree(of.folder / "checkpoints" / "round-2", peer_tree(number))["trainer"]["model"]
            for of in (mixed, apart)
        )
        assert any(not torch.equal(value, its[name]) for name, value in own.items())


def test_filtering_once_differs_from_filtering_until_stable(log: Path, tmp_path: Path) -> None:
    stable = outcome(run(log, tmp_path / "stable", "--min-interactions 12"))
    once = outcome(run(log, tmp_path / "once", "--min-interactions 12 --filter-once"))
    assert stable != once


def test_patience_stops_early(log: Path, tmp_path: Path) -> None:
    rounds = {}
    for patience in (0, 1):
        options = f"--epochs 12 --lr 0.02 --patience {patience}"
        folder = run(log, tmp_path / f"patience-{patience}", options)
        rounds[patience] = len((folder / "rounds.jsonl").read_text().splitlines())
    assert rounds[0] == 12
    assert rounds[1] < 12


def test_threads_are_stored(log: Path, tmp_path: Path) -> None:
    folder = run(log, tmp_path / "run", "--threads-per-peer 2")
    assert json.loads((folder / "config.json").read_text())["threads"] == 2


def test_overwrite_replaces_a_run_whole(log: Path, tmp_path: Path) -> None:
    folder = run(log, tmp_path / "run", "--epochs 3")
    (folder / "stale.txt").write_text("of the first run")
    run(log, folder, "--overwrite")
    assert not (folder / "stale.txt").exists()
    assert len((folder / "rounds.jsonl").read_text().splitlines()) == 2


def test_a_failed_run_leaves_no_folder(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", "--data", str(log), "--out", str(out), *SMALL.split()]
    assert main([*command, "--lr", "1e30"]) == 2
    assert "--lr" in capsys.readouterr().err
    assert not out.exists()


def test_rules_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    said = capsys.readouterr().out
    for rule in RULES:
        assert f"{rule}\n" in said
    assert "--steepness 30.0" in said


def test_demo_data_say_that_they_are_synthetic_and_beat_popularity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    options = (
        "--executor local --peers 1 --threads-per-peer 1 --epochs 4 --hidden-size 32 --lr 0.004"
    )
    assert main(["train", "--out", str(out), *options.split()]) == 0
    said = capsys.readouterr().out
    assert "synthetic" in said
    assert f"next: peercollab recommend {out} --histories {out / 'demo.csv'}" in said
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test"]["ndcg@10"] > 2 * metrics["popularity"]["test"]["ndcg@10"]
    assert main(["recommend", str(out), "--histories", str(out / "demo.csv"), "--k", "1"]) == 0


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        # Prototypes of one SASRec, and of two layer-wise peers, reached 0.156 and 0.157.
        ("ml-1m-prefix.txt", "--epochs 10", 0.15),
        # Papers give 0.03 to 0.05 after ten times as many epochs.
        ("beauty.txt", "--epochs 3 --max-length 50", 0.02),
    ],
)
def test_published_data_reach_what_others_reached(
    name: str, options: str, least: float, real_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["train", "--data", str(real_data / name), "--out", str(out), "--seed", "1"]
    assert main([*command, *options.split()]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test"]["ndcg@10"] >= least
    assert metrics["test"]["ndcg@10"] > 4 * metrics["popularity"]["test"]["ndcg@10"]
