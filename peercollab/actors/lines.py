"""What is printed in an actor's process, kept until the driver asks for it.

Ray would bring it, too, but behind a prefix of its own, bundled with that of other actors, and with
what Ray itself has to say in between.
"""

import sys
import threading
from collections import deque
from collections.abc import Iterable
from typing import TextIO

# Lines between two looks of the driver, beyond which the earliest are left out.
MOST_LINES = 1000
# Of a line that does not end, such as a progress bar's, the last so many characters are kept.
MOST_CHARACTERS = 10_000

# How Ray tells its own log monitor, in the stream itself, whose output follows.
MARKERS = (":actor_name:", ":task_name:", ":job_id:")


class Lines:
    """A stream that hands on all that is written to it, and keeps the lines.

    Parameters
    ----------
    stream
        Where everything goes on to: Ray's own log of the process.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Whatever is collected as garbage meanwhile may print, in the same thread.
        self._lock = threading.RLock()
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._begun = ""
        self._begun_before = ""
        self._left_out = 0

    def write(self, text: str) -> int:
        with self._lock:
            *whole, begun = (self._begun + text).split("\n")
            self._begun = begun[-MOST_CHARACTERS:]
            for line in whole:
                self._keep(line)
        return self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def take(self) -> list[str]:
        """All lines since this was asked for the last time.

        One that has not ended is among them when nothing has come to it for a whole look.
        """
        with self._lock:
            if self._begun == self._begun_before:
                self._keep(self._begun)
                self._begun = ""
            self._begun_before = self._begun
            lines = list(self._lines)
            if self._left_out:
                lines.insert(0, f"... {self._left_out} lines left out")
            self._lines.clear()
            self._left_out = 0
        return lines

    def _keep(self, line: str) -> None:
        # Of what was written over, a terminal shows the last.
        line = line.rstrip().rpartition("\r")[2]
        if line and not line.startswith(MARKERS):
            self._left_out += len(self._lines) == MOST_LINES
            self._lines.append(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def keep_lines() -> Lines:
    """Keep from now on what this process prints, whether on stdout or stderr."""
    lines = Lines(sys.stderr)
    # Its own handlers of logging and warnings look these up whenever they write.
    sys.stdout = sys.stderr = lines
    return lines
