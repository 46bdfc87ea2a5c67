"""The most memory that is held is told, and can be counted anew."""

import sys
from pathlib import Path

import numpy as np
import pytest

from peercollab import process_memory
from peercollab.process_memory import forget_peak, held_bytes, peak_bytes

MEBIBYTE = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets the most that was held")
def test_what_was_held_before_can_be_forgotten() -> None:
    assert forget_peak()
    before = peak_bytes()
    assert abs(before - held_bytes()) < 64 * MEBIBYTE
    # Pages count once they are written to.
    large = np.ones(256 * MEBIBYTE, dtype=np.uint8)
    assert peak_bytes() - before > 200 * MEBIBYTE
    del large
    assert peak_bytes() - before > 200 * MEBIBYTE
    assert forget_peak()
    assert peak_bytes() - before < 64 * MEBIBYTE


def test_a_system_that_cannot_forget_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process_memory, "CLEAR_REFS", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(process_memory, "STATUS", tmp_path / "none")
    assert not forget_peak()
    # Of the whole process, which is more than it holds now.
    assert peak_bytes() > 0.5 * held_bytes()
