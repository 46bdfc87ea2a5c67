"""What the command line of the benchmark takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from peercollab.actors.executor import local_device
from peercollab.command_line import unless_given
from peercollab.errors import PeercollabError
from peercollab.machine import usable_cores
from scripts.benchmarks.setting import Setting, real_data
from scripts.benchmarks.sizes import FULL, Sizes

Part = Literal[
    "train", "rank", "round", "prepare", "memory", "catalogue", "planning", "convergence", "all"
]

# Options that only some parts look at.
PARTS_OF: dict[str, tuple[Part, ...]] = {
    "profile": ("train", "rank", "all"),
    "data": ("train", "rank", "round", "convergence", "all"),
    "interactions": ("prepare", "all"),
}


@dataclass(frozen=True)
class BenchmarkOptions:
    """Measure how fast peercollab is: against a plain reference, and against the machine's limits.

    Ratios are taken in one run, in turns, so that they can be compared between machines; other
    figures cannot. Leave the machine alone meanwhile.
    """

    part: tyro.conf.Positional[Part] = "all"
    """What is measured."""
    runs: int = 5
    """How often each figure is measured; the median and quartiles are told."""
    json: Path | None = None
    """File to write everything into that was measured."""
    profile: Path | None = None
    """Folder for traces and the operators that take most, of training and ranking."""
    threads: Annotated[int | None, unless_given("all cores")] = None
    """CPU threads."""
    data: Annotated[
        Path | None,
        unless_given("ml-1m-prefix.txt in the folder of PEERCOLLAB_TEST_DATA, else synthetic"),
    ] = None
    """Interaction file to train on and to rank."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    interactions: Annotated[int | None, unless_given(f"{FULL.large_interactions:,}")] = None
    """Interactions of the log that is prepared; its users are in proportion."""

    def __post_init__(self) -> None:
        for name in ("runs", "threads", "interactions"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise PeercollabError(f"--{name} is {value}: give 1 or more")
        for name, parts in PARTS_OF.items():
            if getattr(self, name) is not None and self.part not in parts:
                raise PeercollabError(
                    f"--{name} has no effect on {self.part}: leave it out, or measure one of "
                    f"{', '.join(parts)}"
                )

    def setting(self, sizes: Sizes = FULL) -> Setting:
        """Everything filled in; torch is given its threads."""
        threads = self.threads or usable_cores()
        torch.set_num_threads(threads)
        return Setting(
            runs=self.runs,
            threads=threads,
            device=local_device(self.device, 0),
            data=self.data or real_data("ml-1m-prefix.txt"),
            sizes=sizes if self.interactions is None else sizes.with_large(self.interactions),
            profile=self.profile,
        )
