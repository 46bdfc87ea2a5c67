"""Threads that wait do not hold the cores: what torch reads when it is loaded."""

import os
import subprocess
import sys

import pytest

SAY = "import os, sys, peercollab; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1000 False"),
        ({"GOMP_SPINCOUNT": "7"}, "7 False"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None False"),
    ],
)
def test_it_is_told_before_torch_is_loaded_unless_the_user_has(
    given: dict[str, str], expected: str
) -> None:
    own = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", SAY]
    said = subprocess.run(command, env=own | given, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == expected
