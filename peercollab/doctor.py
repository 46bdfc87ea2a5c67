"""What this machine offers a run, and what stands in its way: all that a bug report needs.

It works on a half-installed machine too: what is not in the standard library is imported where it
is used, and ``python -m peercollab.doctor`` needs nothing of the command line.
"""

import math
import os
import platform
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Sequence
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
    "tyro",
    "rich",
    "matplotlib",
    "psutil",
]
CGROUP = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")
WIDTH = 80
GIB = 1 << 30

# Below these a run on small data is in danger: the driver, two peers and Ray's own processes.
LITTLE_MEMORY = 2 * GIB
LITTLE_DISK = GIB


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


@dataclass(frozen=True)
class Finding:
    """A line of the report; `advice` says what to do, and is empty where there is nothing to do."""

    topic: str
    text: str
    advice: str = ""


def environment() -> dict[str, Any]:
    """The facts that a run keeps beside its results; every value can be written as JSON."""
    return asdict(measure())


def doctor() -> list[Finding]:
    """Examine this machine."""
    return examine(measure())


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


def examine(machine: Machine) -> list[Finding]:
    """Judge the facts, in the order in which a reader wants them."""
    commit = f", commit {machine.commit}" if machine.commit else ""
    return [
        Finding("peercollab", machine.peercollab + commit),
        Finding("python", f"{machine.python}, {machine.platform}"),
        _packages(machine),
        _devices(machine),
        _threads(machine),
        Finding("ray", _cluster(machine.ray_address)),
        *_stores(machine),
        _disk(machine),
    ]


def render(findings: Sequence[Finding], encoding: str = "utf-8") -> str:
    """The report as text of at most 80 columns that `encoding` can write.

    Characters beyond the encoding, as a device's name may have, become backslash escapes.
    """
    lines = []
    for finding in findings:
        mark = "look" if finding.advice else "ok"
        head = f"{mark:<6}{finding.topic:<14}"
        lines += _wrap(finding.text, head, encoding)
        if finding.advice:
            lines += _wrap(finding.advice, " " * len(head) + "-> ", encoding)
    to_look_at = sum(bool(finding.advice) for finding in findings)
    lines.append(f"{to_look_at} to look at." if to_look_at else "All is well.")
    return "\n".join(lines)


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


def object_store_size(available_memory: int, shared_memory: int | None) -> int:
    """Bytes that Ray gives its object store unless told, by the rule that Ray itself follows.

    Parameters
    ----------
    available_memory
        Bytes of memory that nobody uses.
    shared_memory
        Free bytes of /dev/shm; None where there is none, as on macOS.
    """
    # `resolve_object_store_memory` in Ray 2.60.
    cap = 2 * GIB if sys.platform == "darwin" else 200 * 10**9
    if shared_memory is not None:
        cap = min(cap, max(10**10, int(0.95 * shared_memory)))
    return min(int(0.3 * available_memory), cap)


def _packages(machine: Machine) -> Finding:
    text = ", ".join(f"{name} {version or 'MISSING'}" for name, version in machine.packages.items())
    missing = [name for name, version in machine.packages.items() if version is None]
    advice = f"install them: python -m pip install {' '.join(missing)}" if missing else ""
    return Finding("packages", text, advice)


def _devices(machine: Machine) -> Finding:
    torch = machine.packages["torch"]
    if machine.torch_threads is None:
        return Finding("devices", "unknown without PyTorch", machine.torch_trouble)
    text = ", ".join(
        device.name + (f" ({_gib(device.memory)})" if device.memory is not None else "")
        for device in machine.devices
    )
    advice = machine.torch_trouble
    if machine.nvidia_driver and not machine.devices:
        advice = (
            f"there is an NVIDIA driver, but torch {torch} sees no GPU: install a CUDA build of "
            f"torch, check CUDA_VISIBLE_DEVICES, or start the container with its GPUs. {advice}"
        )
    return Finding("devices", text or "none: peers share the CPU", advice)


def _threads(machine: Machine) -> Finding:
    text = f"{machine.cores} cores, {machine.usable_cores} usable here"
    if machine.torch_threads is not None:
        text += f"; torch uses {machine.torch_threads} threads unless told"
    return Finding("threads", text)


def _cluster(address: str | None) -> str:
    if address is None:
        return "RAY_ADDRESS is not set: a run starts its own Ray here"
    return f"RAY_ADDRESS is {address}: a run joins that cluster"


def _stores(machine: Machine) -> list[Finding]:
    if machine.memory is None or machine.available_memory is None:
        return [Finding("memory", "unknown", "install psutil, which reads it")]
    memory = Finding(
        "memory",
        f"{_gib(machine.available_memory)} available of {_gib(machine.memory)}",
        f"two peers want about {_gib(LITTLE_MEMORY)}: stop other programs, or use --executor local"
        if machine.available_memory < LITTLE_MEMORY
        else "",
    )
    store = object_store_size(machine.available_memory, machine.shared_memory)
    text = f"Ray would take about {_gib(store)}"
    advice = ""
    if machine.shared_memory is not None:
        text += f"; /dev/shm has {_gib(machine.shared_memory)} free"
        if machine.shared_memory < store:
            advice = (
                "Ray then keeps exchanged weights on disk, which is many times slower; "
                f"start the container with --shm-size={math.ceil(store * 1.1 / GIB)}g"
            )
    return [memory, Finding("object store", text, advice)]


def _disk(machine: Machine) -> Finding:
    advice = ""
    if not machine.folder_writable:
        advice = "this folder cannot be written to: name another with --out"
    elif machine.free_disk < LITTLE_DISK:
        advice = "little room for checkpoints: free some, or name another disk with --out"
    return Finding("disk", f"{_gib(machine.free_disk)} free in this folder", advice)


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


def _wrap(text: str, head: str, encoding: str) -> list[str]:
    writable = text.encode(encoding, errors="backslashreplace").decode(encoding)
    return textwrap.wrap(
        writable,
        width=WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


if __name__ == "__main__":
    print(render(doctor(), sys.stdout.encoding))
