"""What travels to the cluster with a job."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# As in a .gitignore, which Ray honours, too. Those with a slash in front are of the top folder
# alone: peercollab/data is part of the package.
EXCLUDES = [
    "/.git",
    "/.venv",
    "/venv",
    "/runs",
    "/data",
    "/build",
    "/dist",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
]

# Ray kills a stopped job after 3 s, which is too early for it to keep its best state.
SECONDS_TO_STOP = 60


def runtime_env() -> dict[str, Any]:
    """Ray's runtime environment of a job: this repository's source, which the nodes import."""
    return {
        "working_dir": str(ROOT),
        "excludes": EXCLUDES,
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(SECONDS_TO_STOP)},
    }
