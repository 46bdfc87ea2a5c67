"""How much of the machine other work takes meanwhile, for it spoils what is measured.

One busy process beside two threads that wait for each other can make them ten times slower, so a
measurement says what it was disturbed by.
"""

import time

import psutil

# Ticks of the system's clock are coarse: less than this cannot be told from nothing.
LEAST_SECONDS = 0.05


class Others:
    """Processor time that is not used by this process and what it has started."""

    def __init__(self) -> None:
        self._last = _look()

    def cores(self) -> float:
        """Cores that others kept busy, on the average since the last look."""
        (before, foreign_before), self._last = self._last, _look()
        now, foreign = self._last
        used = foreign - foreign_before
        return used / (now - before) if used > LEAST_SECONDS else 0.0


def _look() -> tuple[float, float]:
    """The time, and the processor time of all others so far, in seconds."""
    return time.monotonic(), _busy_seconds() - _own_seconds()


def _busy_seconds() -> float:
    """What all processors have worked for anyone, other machines on the same hardware included."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests are in the time of users, too.
    twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - twice)


def _own_seconds() -> float:
    """What this process and all below it have used, those that have ended included."""
    here = psutil.Process()
    total = 0.0
    for process in (here, *here.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total
