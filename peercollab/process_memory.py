"""The memory of this process: what it holds, and the most that it has held."""

import resource
import sys
from pathlib import Path

import psutil

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")

# Makes Linux forget the most that was held (proc(5), clear_refs).
FORGET_PEAK = "5"


def held_bytes() -> int:
    """What the process holds now."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The most that it has held since it began, or since `forget_peak`.

    Linux hands on to a new process what `getrusage` gave as the peak of the old one, so the
    figure of the process's own memory is taken where there is one.
    """
    if STATUS.is_file():
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes, but for macOS.
    return peak if sys.platform == "darwin" else peak << 10


def forget_peak() -> bool:
    """Count the most that is held from here on; whether the system can do that, as Linux can."""
    try:
        CLEAR_REFS.write_text(FORGET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True
