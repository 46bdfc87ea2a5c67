"""A disk that fills up ends a run in one line, and with space the run goes on.

./scripts/test --slow tests/test_no_space.py
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_resume import log as log
from tests.test_resume import outcome
from tests.traces import Watched

RUN = (
    "--epochs 4 --hidden-size 64 --blocks 1 --max-length 10 --batch-size 16 --min-interactions 1 "
    "--threads-per-peer 1"
)

# KiB that the checkpoint before the first round, about 200 KiB, does not fit into, and then the
# first or the second after a round, which have Adam's moments, too: about 600 KiB.
TOO_SMALL, FOR_ONE, FOR_TWO = 150, 1000, 1700

# A file system of so many KiB, seen by this command alone, and where its files are kept afterwards.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size="$1"k none "$2" || exit 99
disk=$2 kept=$3
shift 3
"$@"
code=$?
cp -r "$disk/run" "$kept"
exit $code
"""


def small_disk(kilobytes: int, disk: Path, kept: Path) -> list[str]:
    """What a command is started through, to have a disk of this size at that place."""
    apart = ["unshare", "--map-root-user", "--mount"]
    shell = ["sh", "-c", ON_A_SMALL_DISK, "sh", str(kilobytes), str(disk), str(kept)]
    return [*apart, *shell]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An empty folder, on a system where a command can have file systems of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    tried = [*small_disk(64, disk, tmp_path / "tried"), "mkdir", str(disk / "run")]
    if subprocess.run(tried, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    return disk


@pytest.fixture(scope="module")
def whole(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    command = ["train", "--data", str(log), "--out", str(folder), *RUN.split()]
    command += ["--executor", "local"]
    subprocess.run([sys.executable, "-m", "peercollab", *command], check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kilobytes", "executor"), [(FOR_ONE, "local"), (FOR_TWO, "local"), (FOR_TWO, "ray")]
)
def test_a_full_disk_ends_the_run_which_goes_on_with_space(
    kilobytes: int, executor: str, log: Path, whole: Path, disk: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    command = ["train", "--data", str(log), "--out", str(disk / "run"), *RUN.split()]
    run = Watched(
        [*command, "--executor", executor],
        tmp_path / "output.txt",
        through=small_disk(kilobytes, disk, kept),
    )
    try:
        code = run.end()
        said = run.output.read_text()
        assert code == 2, said
        run.require_no_traces()
    finally:
        run.clean_up()
    assert "Traceback" not in said
    *_, last = said.splitlines()
    assert last.startswith("peercollab: ")
    assert "/disk/run/" in last
    assert "No space left on device" in last
    assert "make room on its disk" in last
    assert "--resume" in said
    resumed = Watched(["train", "--resume", str(kept)], tmp_path / "resumed.txt")
    try:
        assert resumed.end() == 0, resumed.output.read_text()
        resumed.require_no_traces()
    finally:
        resumed.clean_up()
    assert outcome(kept) == outcome(whole)


@pytest.mark.slow
def test_a_disk_that_takes_no_checkpoint_ends_the_run_before_it_begins(
    log: Path, disk: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    command = ["train", "--data", str(log), "--out", str(disk / "run"), *RUN.split()]
    run = Watched(
        [*command, "--executor", "local"],
        tmp_path / "output.txt",
        through=small_disk(TOO_SMALL, disk, kept),
    )
    try:
        assert run.end() == 2, run.output.read_text()
    finally:
        run.clean_up()
    assert "safetensors cannot be written: No space left" in run.output.read_text()
    assert not kept.exists()
