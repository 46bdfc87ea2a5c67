"""What `RunFolder` writes of every user is read back; what is damaged is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from peercollab.errors import PeercollabError
from peercollab.results.per_user import read_per_user
from peercollab.results.run_folder import PER_USER, RunFolder
from peercollab.training.metrics import MISS


def write(run: Path) -> None:
    RunFolder(run).write_per_user(
        np.array(["9", "10", "b"], dtype=np.object_),
        {
            "validation": np.array([4, 5, 6], dtype=np.int32),
            "test": np.array([7, MISS, 1], dtype=np.int32),
        },
    )


def test_ranks_come_back_by_user(tmp_path: Path) -> None:
    write(tmp_path)
    test = read_per_user(tmp_path, "test")
    assert test.users.tolist() == ["10", "9", "b"]
    assert test.ranks_U.tolist() == [MISS, 7, 1]
    assert test.ranks_U.dtype == np.int32
    assert read_per_user(tmp_path, "validation").ranks_U.tolist() == [5, 4, 6]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda frame: frame.drop(columns="rank"), "has no column rank"),
        (lambda frame: frame[frame["split"] == "validation"], "has no ranks on test"),
        (lambda frame: frame.assign(rank=-1), "whole numbers from 1"),
        (lambda frame: frame.assign(rank=1.5), "whole numbers from 1"),
        (lambda frame: pd.concat([frame, frame[3:4]]), "user 9 has two ranks on test"),
    ],
)
def test_a_damaged_file_is_refused(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], told: str
) -> None:
    write(tmp_path)
    change(pd.read_parquet(tmp_path / PER_USER)).to_parquet(tmp_path / PER_USER, index=False)
    with pytest.raises(PeercollabError, match=told):
        read_per_user(tmp_path, "test")


def test_a_run_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PeercollabError, match="give the folder of a run that is finished"):
        read_per_user(tmp_path, "test")
    (tmp_path / PER_USER).write_text("no parquet")
    with pytest.raises(PeercollabError, match="is damaged"):
        read_per_user(tmp_path, "test")
