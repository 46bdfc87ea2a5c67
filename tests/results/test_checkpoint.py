"""A checkpoint is whole or it is none: every file, every byte."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from peercollab.errors import PeercollabError
from peercollab.results import checkpoint as module
from peercollab.results.checkpoint import Checkpoints, carry_over, read_tree, save_tree

TREE: dict[str, Any] = {
    "weights": {"table": torch.arange(6.0).view(2, 3), "bias": torch.tensor([1.5])},
    "optimizer": [{"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.999), "lr": 1e-3}],
    "memory": {},
    "kept": None,
    "is_ruined": False,
    "loss": float("inf"),
    "name": "é",
}


def completed(checkpoints: Checkpoints, round: int) -> Path:
    path = checkpoints.begin(round)
    checkpoints.complete(round, save_tree(TREE, path, "peer-1"))
    return path


def require_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            require_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            require_equal(a, b)
    else:
        assert one == other


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    save_tree(TREE, tmp_path, "peer-1")
    require_equal(read_tree(tmp_path, "peer-1"), TREE)


def test_tensors_that_share_memory_come_back(tmp_path: Path) -> None:
    table = torch.arange(6.0)
    save_tree({"a": table, "b": table, "half": table[::2]}, tmp_path, "x")
    found = read_tree(tmp_path, "x")
    assert torch.equal(found["b"], table)
    assert found["half"].tolist() == [0.0, 2.0, 4.0]


def test_what_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"/a/1 is a \w*Path"):
        save_tree({"a": [1, tmp_path]}, tmp_path, "x")


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest(print) is None
    for round in (0, 1, 2, 10):
        completed(checkpoints, round)
    assert checkpoints.rounds() == [2, 10]
    assert checkpoints.latest(print) == 10


def damages(whole: bytes) -> list[bytes]:
    """The file cut short at every byte, and every byte flipped."""
    cut = [whole[:length] for length in range(len(whole))]
    flipped = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    return [*cut, *flipped]


@pytest.mark.parametrize("name", ["peer-1.safetensors", "peer-1.json", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    name: str, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    completed(checkpoints, 1)
    file = completed(checkpoints, 2) / name
    whole = file.read_bytes()
    for damaged in damages(whole):
        file.write_bytes(damaged)
        said: list[str] = []
        found = checkpoints.latest(said.append)
        if found == 2:  # Of the manifest's bytes some are blanks and line ends.
            assert name == "manifest.json"
            assert json.loads(damaged) == json.loads(whole)
            continue
        assert found == 1
        assert len(said) == 1
        assert str(checkpoints.of(2)) in said[0]
        assert name in said[0]


def test_a_missing_file_and_a_missing_manifest_are_told(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    (completed(checkpoints, 1) / "peer-1.json").unlink()
    (completed(checkpoints, 2) / "manifest.json").unlink()
    said: list[str] = []
    assert checkpoints.latest(said.append) is None
    assert "round-2 was not completed" in said[0]
    assert "round-1: peer-1.json: No such file" in said[1]


def test_a_manifest_that_points_elsewhere_is_no_manifest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    path = completed(checkpoints, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["files"]["../outside"] = next(iter(manifest["files"].values()))
    manifest["sha256"] = module._checksum_of(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PeercollabError, match=r"manifest.json is damaged .*another checkpoint"):
        checkpoints.verify(1)


def test_no_space_left_is_told_and_the_checkpoint_before_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path)
    completed(checkpoints, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "save_tensors", full)
    path = checkpoints.begin(2)
    with pytest.raises(PeercollabError, match=r"cannot be written: No space left"):
        save_tree(TREE, path, "peer-1")
    checkpoints.discard(2)
    assert checkpoints.latest(print) == 1


@pytest.mark.parametrize("links", [True, False])
def test_files_are_carried_over(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "other file system")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "old").write_text("text")
    (tmp_path / "b" / "new").write_text("another")
    files = carry_over({"old": "new"}, tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "new").read_text() == "text"
    assert files["new"].bytes == 4
