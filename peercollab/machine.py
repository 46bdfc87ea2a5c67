"""The facts of the machine and process that a run is on.

It works on a half-installed machine too: what is not in the standard library is imported where it
is used.
"""

import os
import platform
import shutil
import subprocess
import warnings
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from peercollab.version import __version__

PACKAGES = [
    "torch",
    "ray",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "scipy",
    "tyro",
    "rich",
    "matplotlib",
    "psutil",
]
CGROUP = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Device:
    """An accelerator that PyTorch sees; `memory` in bytes, None where it shares the machine's."""

    name: str
    memory: int | None


@dataclass(frozen=True)
class Machine:
    """Facts of this machine and process: sizes in bytes, None where a fact cannot be had."""

    peercollab: str
    commit: str | None
    python: str
    platform: str
    packages: dict[str, str | None]
    devices: list[Device]
    torch_threads: int | None
    torch_trouble: str
    nvidia_driver: bool
    cores: int
    usable_cores: int
    memory: int | None
    available_memory: int | None
    shared_memory: int | None
    free_disk: int
    folder_writable: bool
    ray_address: str | None


def environment() -> dict[str, Any]:
    """The facts that a run keeps beside its results; every value can be written as JSON."""
    return asdict(measure())


def measure() -> Machine:
    """Gather the facts; a missing or broken package is one of them."""
    devices, threads, trouble = _ask_torch()
    memory, available = _memory()
    return Machine(
        peercollab=__version__,
        commit=_commit(),
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: _version(name) for name in PACKAGES},
        devices=devices,
        torch_threads=threads,
        torch_trouble=trouble,
        nvidia_driver=shutil.which("nvidia-smi") is not None,
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        memory=memory,
        available_memory=available,
        shared_memory=_free_bytes(SHARED_MEMORY),
        free_disk=shutil.disk_usage(".").free,
        folder_writable=os.access(".", os.W_OK),
        ray_address=os.environ.get("RAY_ADDRESS"),
    )


def usable_cores() -> int:
    """The cores that this process may use: its affinity and its container's quota, at least 1."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    # "quota period" in microseconds, or "max period".
    quota = _cgroup("cpu.max").split()
    if quota and quota[0] != "max":
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def _ask_torch() -> tuple[list[Device], int | None, str]:
    """Devices, threads, and what went wrong in asking for them."""
    # That a driver is too old for this torch is told by a warning alone.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            import torch

            devices = []
            for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
                gpu = torch.cuda.get_device_properties(index)
                devices.append(Device(f"cuda:{index} {gpu.name}", gpu.total_memory))
            if torch.backends.mps.is_available():
                devices.append(Device("mps: an Apple GPU, which peers do not use", None))
        except (ImportError, OSError, RuntimeError) as error:
            return [], None, f"PyTorch fails here: {error}"
    return devices, torch.get_num_threads(), " ".join(str(warning.message) for warning in caught)


def _memory() -> tuple[int | None, int | None]:
    """Bytes in all and available, of the container where it has a limit."""
    try:
        import psutil
    except ImportError:
        return None, None
    memory = psutil.virtual_memory()
    limit = _cgroup("memory.max")
    if not limit.isdecimal():
        return memory.total, memory.available
    # The page cache counts as used, yet its idle part is given back when it is wanted.
    statistics = dict(line.split() for line in _cgroup("memory.stat").splitlines())
    used = int(_cgroup("memory.current")) - int(statistics["inactive_file"])
    total = min(memory.total, int(limit))
    return total, min(memory.available, total - used)


def _cgroup(name: str) -> str:
    """A file of this container's limits (control groups, version 2); empty where there is none."""
    path = CGROUP / name
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""


def _free_bytes(folder: Path) -> int | None:
    return shutil.disk_usage(folder).free if folder.is_dir() else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that the package runs from, with ``-dirty`` after it where files have changed."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    # Without optional locks git does not write to the index, which others may be using.
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, env=quiet)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
