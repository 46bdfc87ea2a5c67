"""Whether a run is going on: a file in its folder that its driver writes again and again.

A lock would tell more surely, but not across every shared file system.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from peercollab.errors import PeercollabError
from peercollab.results.checkpoint import write_whole

RUNNING = "running.json"

SECONDS_BETWEEN_BEATS = 5.0

# Without a beat for so long a driver on another machine counts as gone.
SECONDS_OF_SILENCE = 60.0


@dataclass(frozen=True)
class Beat:
    """What a driver last told of itself.

    Attributes
    ----------
    host, pid, started
        Which process it is; when that began, in seconds since its machine did.
    at
        When it wrote this, in seconds since 1970.
    progress
        Where each peer was.
    events
        What went wrong since the last complete round.
    """

    host: str
    pid: int
    started: float
    at: float
    progress: list[dict[str, Any]]
    events: list[str]

    @property
    def is_alive(self) -> bool:
        """Whether that driver is there still: seen here, if it is on this machine."""
        if self.host != socket.gethostname():
            return time.time() - self.at < SECONDS_OF_SILENCE
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and _began(process) == self.started
        return False


def last_beat(run: Path) -> Beat | None:
    """What the driver of the run in this folder last told, if it has not ended in good order."""
    try:
        return Beat(**json.loads((run / RUNNING).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def require_idle(run: Path) -> None:
    """Refuse to start where a run goes on already: two drivers in one folder would ruin it."""
    if (beat := last_beat(run)) and beat.is_alive:
        raise PeercollabError(
            f"{run}: the run is going on, as process {beat.pid} on {beat.host}: end that first, or "
            "take another folder"
        )


class Heartbeat:
    """Tells in a run's folder, while in its context, that the run goes on, and whose it is.

    Parameters
    ----------
    run
        The folder.
    events
        Gives what went wrong since the last complete round.

    Attributes
    ----------
    progress
        Where the peers are, as dataclasses; told with the next beat.

    Raises
    ------
    PeercollabError
        Another driver has the folder, on entering the context.
    """

    def __init__(self, run: Path, events: Callable[[], Sequence[str]]) -> None:
        self.progress: Sequence[Any] = ()
        self._events = events
        self._path = run / RUNNING
        self._started = _began(psutil.Process())
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._claim()
        self.beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self.is_ours():
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def require_ours(self) -> None:
        """Make sure that no other driver has taken the folder since.

        Raises
        ------
        PeercollabError
            One has: this one was silent for so long that it counted as gone.
        """
        if not self.is_ours() and (beat := last_beat(self._path.parent)):
            raise PeercollabError(
                f"{self._path.parent}: process {beat.pid} on {beat.host} has taken the run over, "
                "as nothing was heard from this one: it ends here"
            )

    def _claim(self) -> None:
        """Take the folder, of two that try at the same time one alone."""
        require_idle(self._path.parent)
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        try:
            self._path.touch(exist_ok=False)
        except FileExistsError:
            require_idle(self._path.parent)
            raise PeercollabError(
                f"{self._path.parent}: another run begins there: take another folder"
            ) from None
        except OSError:
            return  # A disk that takes nothing is told of by what matters.

    def is_ours(self) -> bool:
        """Whether no other driver has taken the folder."""
        beat = last_beat(self._path.parent)
        return beat is None or (beat.host, beat.pid, beat.started) == (
            socket.gethostname(),
            os.getpid(),
            self._started,
        )

    def _go_on(self) -> None:
        while not self._is_over.wait(SECONDS_BETWEEN_BEATS):
            self.beat()

    def beat(self) -> None:
        """Tell now how things stand, unless another driver has taken the folder."""
        with self._lock:
            if self.is_ours():
                self._beat()

    def _beat(self) -> None:
        beat = Beat(
            socket.gethostname(),
            os.getpid(),
            self._started,
            time.time(),
            [asdict(progress) for progress in self.progress],
            list(self._events()),
        )
        # A full disk is told of by what matters.
        with suppress(PeercollabError):
            write_whole(self._path, json.dumps(asdict(beat)) + "\n")


def _began(process: psutil.Process) -> float:
    """When it began, counted from when its machine did, which setting the clock leaves alone."""
    return round(process.create_time() - psutil.boot_time(), 2)
