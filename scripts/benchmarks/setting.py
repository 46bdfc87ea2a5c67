"""What all parts of a benchmark share: how often, with what, on what data."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from peercollab.data.layout import ReadOptions
from peercollab.data.prepare import PrepareOptions, prepare
from peercollab.data.read import read_interactions
from peercollab.data.sequences import Histories
from peercollab.training.options import TrainingOptions
from peercollab.training.precision import Numbers, choose
from scripts.benchmarks.sizes import FULL, Sizes
from scripts.benchmarks.synthetic import synthetic_histories

REAL_DATA = "PEERCOLLAB_TEST_DATA"


def say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class Setting:
    """How a benchmark is run.

    Attributes
    ----------
    runs
        How often each figure is measured.
    threads
        CPU threads of torch.
    device
        Where models live; peers of a round take what Ray gives them.
    data
        The interaction file; None for a synthetic log.
    sizes
        How much is done.
    profile
        Folder for traces, if any are wanted.
    say
        Told how it goes on.
    others
        Cores that other work kept busy, in each turn that was measured so far.
    """

    runs: int
    threads: int
    device: torch.device
    data: Path | None
    sizes: Sizes = FULL
    profile: Path | None = None
    say: Callable[[str], None] = field(default=say)
    others: list[float] = field(default_factory=list)

    @cached_property
    def histories(self) -> Histories:
        """The log that is trained on and ranked."""
        sizes = self.sizes
        if self.data is None:
            return synthetic_histories(sizes.users, sizes.items, sizes.interactions)
        prepared, _ = prepare(read_interactions(self.data, ReadOptions()), PrepareOptions())
        return prepared.histories

    @property
    def numbers(self) -> Numbers:
        """In which numbers peers train here, and what is compared with them."""
        return training_numbers(self.device)

    def as_json(self) -> dict[str, Any]:
        histories = self.histories
        name = "synthetic, in MovieLens-1M's shape" if self.data is None else self.data.name
        return {
            "runs": self.runs,
            "threads": self.threads,
            "device": _device_name(self.device),
            "processor": _processor(),
            "numbers": str(self.numbers),
            "data": f"{name}: {histories.n_users:,} users, {histories.n_items:,} items, "
            f"{len(histories.items):,} interactions",
        }


def training_numbers(device: torch.device) -> Numbers:
    """The numbers that a peer trains in on a device, unless others are asked for."""
    return choose(TrainingOptions().precision, device.type)


def real_data(name: str) -> Path | None:
    """A published data set in the folder that `PEERCOLLAB_TEST_DATA` names, if it is there."""
    path = Path(os.environ.get(REAL_DATA, "")) / name
    return path if REAL_DATA in os.environ and path.is_file() else None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _processor() -> str:
    """The processor's name as its maker gives it, where the system tells."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
