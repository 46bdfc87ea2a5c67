"""Going back in a run's folder: what is written afterwards touches no checkpoint."""

import json
import os
import socket
from pathlib import Path

import pytest

from peercollab.disk import replacing
from peercollab.errors import PeercollabError
from peercollab.models.saved import WEIGHTS
from peercollab.results.heartbeat import RUNNING, Heartbeat
from peercollab.results.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of three rounds, with checkpoints after the last two."""
    folder = RunFolder(tmp_path / "run")
    folder.create({}, {})
    for round in (1, 2, 3):
        (folder.best / WEIGHTS).unlink(missing_ok=True)
        (folder.best / WEIGHTS).write_text(f"best of round {round}")
        folder.add_round({"round": round})
        folder.checkpoints.begin(round)
        folder.checkpoint(round, {"selected": round}, {}, [])
    return folder


def test_a_new_best_leaves_the_checkpoint_that_was_gone_back_to(folder: RunFolder) -> None:
    assert folder.go_back(2) == {"selected": 2}
    assert (folder.best / WEIGHTS).read_text() == "best of round 2"
    # A writer that opens what is there, as safetensors did for long.
    with replacing(folder.best / WEIGHTS) as unfinished:
        unfinished.write_text("another")
    folder.checkpoints.verify(2)
    folder.go_back(2)
    with (folder.best / WEIGHTS).open("r+") as file:
        file.write("ANOTHER")
    folder.checkpoints.verify(2)


def test_another_name_of_a_file_that_was_left_behind_is_not_written_into(
    folder: RunFolder,
) -> None:
    kept = folder.checkpoints.of(3) / "best.safetensors"
    os.link(kept, folder.best / f"{WEIGHTS}.unfinished")
    with replacing(folder.best / WEIGHTS) as unfinished:
        unfinished.write_text("another")
    folder.checkpoints.verify(3)


def test_what_was_written_of_later_rounds_is_taken_away(folder: RunFolder) -> None:
    folder.checkpoints.begin(7)
    folder.go_back(2)
    assert folder.checkpoints.rounds() == [2]
    assert [record["round"] for record in folder.rounds()] == [1, 2]


def test_a_checkpoint_that_was_not_completed_does_not_count_as_one_of_two(
    folder: RunFolder,
) -> None:
    folder.checkpoints.begin(9)
    folder.checkpoints.begin(4)
    folder.checkpoint(4, {}, {}, [])
    assert folder.checkpoints.complete_ones() == [3, 4]
    assert folder.checkpoints.before(9) == folder.checkpoints.of(4)


def test_a_folder_has_one_driver_at_a_time(folder: RunFolder) -> None:
    with Heartbeat(folder.path, list) as first:
        first.require_ours()
        with pytest.raises(PeercollabError, match="the run is going on"):
            Heartbeat(folder.path, list).__enter__()
        first.require_ours()
    assert not (folder.path / RUNNING).exists()


def test_of_two_drivers_that_begin_at_once_one_has_the_folder(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / RUNNING).touch()
    # The other came after this one had looked, and had taken away what was left of an earlier run.
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(PeercollabError, match="another run begins there"):
        Heartbeat(folder.path, list).__enter__()


def test_a_driver_that_was_silent_for_too_long_makes_way(folder: RunFolder) -> None:
    with Heartbeat(folder.path, list) as first:
        own = json.loads((folder.path / RUNNING).read_text())
        other = own | {"host": f"not-{socket.gethostname()}"}
        (folder.path / RUNNING).write_text(json.dumps(other))
        with pytest.raises(PeercollabError, match=r"has taken the run over.*it ends here"):
            first.require_ours()
    assert json.loads((folder.path / RUNNING).read_text()) == other
