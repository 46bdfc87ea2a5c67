"""What is printed in an actor's process, kept until the driver asks for it.

Ray would bring it, too, but behind a prefix of its own, bundled with that of other actors, and with
what Ray itself has to say in between.
"""

import sys
import threading
from collections import deque
from typing import TextIO

# Lines between two looks of the driver, beyond which the earliest are left out.
MOST_LINES = 1000


class Lines:
    """A stream that hands on all that is written to it, and keeps the lines.

    Parameters
    ----------
    stream
        Where everything goes on to: Ray's own log of the process.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._begun = ""
        self._left_out = 0

    def write(self, text: str) -> int:
        with self._lock:
            *whole, self._begun = (self._begun + text).split("\n")
            for line in filter(None, map(str.rstrip, whole)):
                self._left_out += len(self._lines) == MOST_LINES
                self._lines.append(line)
        return self._stream.write(text)

    def take(self) -> list[str]:
        """All whole lines since this was asked for the last time."""
        with self._lock:
            lines = list(self._lines)
            if self._left_out:
                lines.insert(0, f"... {self._left_out} lines left out")
            self._lines.clear()
            self._left_out = 0
        return lines

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def keep_lines() -> Lines:
    """Keep from now on what this process prints, whether on stdout or stderr."""
    lines = Lines(sys.stderr)
    # Its own handlers of logging and warnings look these up whenever they write.
    sys.stdout = sys.stderr = lines
    return lines
