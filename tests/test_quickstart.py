"""What ./scripts/quickstart adds to the options that it hands on."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACE = f"--out {ROOT}/runs/quickstart --overwrite"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("", f"{PLACE} --epochs 12"),
        ("--epochs 5", f"{PLACE} --epochs 12 --epochs 5"),
        ("--out-of-place", f"{PLACE} --epochs 12 --out-of-place"),
        # A run that is named is not replaced unasked.
        ("--out mine", "--epochs 12 --out mine"),
        ("--lr 0.1 --out=mine", "--epochs 12 --lr 0.1 --out=mine"),
        # One that is gone on with has its own epochs.
        ("--resume mine", "--resume mine"),
        ("--resume=mine --epochs 20", "--resume=mine --epochs 20"),
    ],
)
def test_only_what_is_not_told_is_added(told: str, expected: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o700)
    ended = subprocess.run(
        [ROOT / "scripts" / "quickstart", *told.split()],
        env=os.environ | {"PEERCOLLAB_PYTHON": str(python)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == f"-m peercollab train {expected}"
