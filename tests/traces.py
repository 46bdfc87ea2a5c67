"""What a command and all that it started leave behind on this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")


class Watched:
    """A run of ``peercollab`` in a process of its own, with everything that it starts.

    Parameters
    ----------
    arguments
        Of the command.
    output
        Where it writes both of its streams; appended to.
    """

    def __init__(self, arguments: Sequence[str], output: Path) -> None:
        self.output = output
        self._shared_before = set(SHARED_MEMORY.iterdir())
        with output.open("a", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "peercollab", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._seen: dict[int, psutil.Process] = {}

    def is_running(self) -> bool:
        return self.process.poll() is None

    def started(self) -> list[psutil.Process]:
        """All processes below it that are alive now."""
        found: list[psutil.Process] = []
        with suppress(psutil.Error):
            found = psutil.Process(self.process.pid).children(recursive=True)
        self._seen |= {process.pid: process for process in found}
        return found

    def actors(self, kind: str) -> list[psutil.Process]:
        """The processes of its actors of this class."""
        found = []
        for process in self.started():
            with suppress(psutil.Error):
                if "".join(process.cmdline()[:1]).startswith(f"ray::{kind}"):
                    found.append(process)
        return found

    def require_no_traces(self, seconds: float = 120) -> None:
        """Every process that was seen ends by itself, and no shared memory of theirs is left.

        When a driver that had started Ray is killed, two of Ray's agents go after 60 s only.
        """
        deadline = time.monotonic() + seconds
        while left := [process for process in self._seen.values() if _is_alive(process)]:
            assert time.monotonic() < deadline, f"left running: {[_told(p) for p in left]}"
            time.sleep(0.1)
        shared = set(SHARED_MEMORY.iterdir()) - self._shared_before
        ours = [path for path in shared if path.stat().st_uid == os.getuid()]
        held = {path for path in ours if not any(_uses(p, path) for p in psutil.process_iter())}
        assert not held, f"left in shared memory: {held}"

    def clean_up(self) -> None:
        """End whatever is left of it."""
        for process in [*self.started(), *self._seen.values()]:
            with suppress(psutil.Error):
                process.kill()
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(60)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _told(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:80]}"
    except psutil.Error:
        return str(process.pid)


def _uses(process: psutil.Process, path: Path) -> bool:
    """Whether a process that goes on, another's, has the file mapped or open."""
    try:
        return str(path) in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    except OSError:
        return False
