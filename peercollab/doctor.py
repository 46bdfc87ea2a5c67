"""What this machine offers a run, and what stands in its way: all that a bug report needs.

``python -m peercollab.doctor`` needs nothing of the command line, nor any installed package.
"""

import math
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from peercollab.machine import Machine, measure

WIDTH = 80
GIB = 1 << 30

# Below these a run on small data is in danger: the driver, two peers and Ray's own processes.
LITTLE_MEMORY = 2 * GIB
LITTLE_DISK = GIB


@dataclass(frozen=True)
class Finding:
    """A line of the report; `advice` says what to do, and is empty where there is nothing to do."""

    topic: str
    text: str
    advice: str = ""


def doctor() -> list[Finding]:
    """Examine this machine."""
    return examine(measure())


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
