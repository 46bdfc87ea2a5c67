"""docs/bring-your-model.md does what it says."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from peercollab.cli import main
from tests.models.guide import command_of_the_guide, python_of_the_guide
from tests.test_run import log as log

FASTER = "--executor local --epochs 1 --batch-size 16"


def test_the_command_trains_the_network(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("interactions.csv").write_bytes(log.read_bytes())
    Path("recent.py").write_text(python_of_the_guide()[0])
    program, *command = shlex.split(command_of_the_guide())
    assert program == "peercollab"
    assert main([*command, *FASTER.split()]) == 0
    assert (tmp_path / "runs" / "recent" / "best" / "model.safetensors").exists()


def test_the_python_runs_as_it_stands(
    log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("interactions.csv").write_bytes(log.read_bytes())
    space: dict[str, Any] = {}
    for block in python_of_the_guide()[:2]:
        exec(block, space)
    result = space["result"]
    assert list(result.metrics["split"]) == ["validation", "validation", "test", "test"]
    assert len(result.rounds) == 4
    assert "popularity" in capsys.readouterr().out


def test_the_classifier_learns_and_the_best_of_all_rounds_is_kept() -> None:
    pytest.importorskip("sklearn")
    space: dict[str, Any] = {}
    _, _, classifier = python_of_the_guide()
    exec("import torch, peercollab\nfrom torch import nn\n" + classifier, space)
    found = space["found"]
    scores = [value for by_peer in found.scores for value in by_peer.values()]
    assert len(scores) == 6
    peer, round, best = found.best
    assert best == max(scores) == found.scores[round - 1][peer]
    assert space["accuracy"](found.network) == best > 0.8
    # Both take of each other, in every layer.
    assert set(found.shares[0]) == {1, 2}
    assert set(found.shares[0][1]) == {"0", "1", "4"}
