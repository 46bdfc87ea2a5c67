"""A command and all that it started: watched while it goes on, and what it leaves on this machine.

Everything that it starts has its mark in the environment, also where Ray has renamed a process or
it has lost its parent. So nothing else is taken for its own, whatever goes on beside it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

MARK = "PEERCOLLAB_TEST_MARK"
SHARED_MEMORY = Path("/dev/shm")

SECONDS_BETWEEN_NOTES = 5.0

# What processes may take to begin on a machine with other work.
SECONDS_TO_BEGIN = 240.0

Kind = Literal["peer", "coordinator"]


def wait_until(
    holds: Callable[[], bool], process: subprocess.Popen[str], told: Callable[[], str]
) -> None:
    """Wait for what a process brings about; it must not end, or take too long, before."""
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while not holds():
        # What it brought about before it ended may be seen only now.
        assert process.poll() is None or holds(), told()
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)


def last_words(process: subprocess.Popen[str]) -> str:
    """What a process said on stderr, if it has ended."""
    return "it goes on" if process.poll() is None else process.communicate()[1]


def rounds_in(folder: Path) -> int:
    """Rounds that a run has recorded, whole."""
    path = folder / "rounds.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


class Watched:
    """A run of ``peercollab`` in a process of its own, with everything that it starts.

    Parameters
    ----------
    arguments
        Of the command.
    output
        Where it writes both of its streams; appended to.
    through
        A command that is to start it, such as one that makes its surroundings.
    settings
        Further variables of its environment.

    Attributes
    ----------
    folder
        Where Ray keeps its sessions for it. The path is short, as Ray's sockets need it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        output: Path,
        through: Sequence[str] = (),
        **settings: str,
    ) -> None:
        self.output = output
        output.touch()
        self.folder = Path(tempfile.mkdtemp(prefix="pc-", dir="/tmp"))
        self._segments: set[Path] = set()
        self._lines: list[tuple[float, str]] = []
        self.process = subprocess.Popen(
            [*through, sys.executable, "-m", "peercollab", *arguments],
            env=os.environ | marked(self.folder) | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def is_running(self) -> bool:
        return self.process.poll() is None

    def end(self, seconds: float = 240) -> int:
        """Wait until it has ended by itself; its exit code."""
        code = self.process.wait(seconds)
        self._listener.join(10)
        return code

    def said_at(self, text: str, seconds: float = 240) -> float:
        """Wait for a line with this text; the time by the monotonic clock at which it came."""
        deadline = time.monotonic() + seconds
        while True:
            was_running = self.is_running()
            for moment, line in list(self._lines):
                if text in line:
                    return moment
            assert was_running, f"ended without a word of {text!r}: {self.output.read_text()}"
            assert time.monotonic() < deadline, f"no {text!r} yet: {self.output.read_text()}"
            time.sleep(0.02)

    def started(self) -> list[psutil.Process]:
        """All processes of it that are alive now, itself included."""
        return processes_with(self.folder)

    def actors(self, kind: Kind) -> list[psutil.Process]:
        """The processes of its peers or its coordinator."""
        return [process for process in self.started() if kind_of(process) == kind]

    def require_no_traces(self, seconds: float = 120) -> None:
        """All processes end by themselves, and no shared memory or folder of theirs is left.

        When a driver that had started Ray is killed, two of Ray's agents go after 60 s only, and
        nobody is there to remove Ray's folder.
        """
        deadline = time.monotonic() + seconds
        while left := processes_with(self.folder):
            assert time.monotonic() < deadline, f"left running: {[_told(p) for p in left]}"
            time.sleep(0.1)
        segments = {path for path in self._segments if path.is_relative_to(SHARED_MEMORY)}
        held = {path for path in segments if path.exists()}
        assert not held, f"left in shared memory: {held}"
        if self.process.returncode != -signal.SIGKILL:
            assert not (sessions := sessions_in(self.folder)), f"left of Ray: {sessions}"

    def clean_up(self) -> None:
        """End whatever is left of it."""
        for process in processes_with(self.folder):
            with suppress(psutil.Error):
                process.kill()
        self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.output.open("a", encoding="utf-8") as file:
            noted = 0.0
            for line in self.process.stdout:
                self._lines.append((time.monotonic(), line))
                file.write(line)
                file.flush()
                if time.monotonic() - noted > SECONDS_BETWEEN_NOTES:
                    self._note_segments()
                    noted = time.monotonic()

    def _note_segments(self) -> None:
        """Note what shared memory it has now, also what has no name any more."""
        for process in self.started():
            with suppress(psutil.Error, OSError):
                self._segments |= {Path(mapped.path) for mapped in process.memory_maps()}


def marked(folder: Path) -> dict[str, str]:
    """What the environment says of processes that belong together; Ray writes into the folder."""
    return {MARK: str(folder), "RAY_TMPDIR": str(folder)}


def processes_with(folder: Path) -> list[psutil.Process]:
    """The living processes that are marked with a folder, but for this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            is_marked = process.environ().get(MARK) == str(folder)
            if is_marked and process.pid != os.getpid():
                found.append(process)
    return found


def sessions_in(folder: Path) -> list[str]:
    """The folders of Ray's sessions; links to what is gone do not count."""
    return [path.name for path in folder.glob("ray/session_*") if path.exists()]


def kind_of(process: psutil.Process) -> Kind | None:
    """Which actor lives in a process, by the title that Ray gave it; None of all others."""
    try:
        title = " ".join(process.cmdline()).lower()
    except psutil.Error:
        return None
    if not title.startswith("ray::"):
        return None
    if "coordinator" in title:
        return "coordinator"
    return "peer" if "peer" in title else None


def _told(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:80]}"
    except psutil.Error:
        return str(process.pid)
