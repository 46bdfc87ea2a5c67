"""What a comparison can be told."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from peercollab.actors.options import ExecutionOptions
from peercollab.command_line import unless_given
from peercollab.comparison.arms import RECIPES, Arm, make_arm
from peercollab.config_file import option_names
from peercollab.data.demo import DEMO
from peercollab.data.layout import ReadOptions
from peercollab.data.prepare import PrepareOptions
from peercollab.errors import PeercollabError
from peercollab.models.options import ModelOptions
from peercollab.options import TrainOptions
from peercollab.resume import flat_options
from peercollab.training.options import TrainingOptions
from peercollab.transplant.options import TransplantOptions

ARMS = ("solo", "solo-long", "ema", "average", "layer-wise", "papa")


@dataclass(frozen=True)
class RunsOptions:
    """Where the runs are trained: each in one process, its peers one after another."""

    peers: int = 2
    """N: peers of an arm with peers, and models of an arm that ends several as one."""
    executor: Literal["ray", "local"] = "ray"
    """ray: as many runs at a time as there is room for; local: one by one here, without Ray."""
    address: Annotated[str | None, unless_given("RAY_ADDRESS, else Ray starts here")] = None
    """Ray cluster to join; auto finds the one on this machine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes GPUs where there are any."""
    gpus_per_peer: float = 1.0
    """GPUs of each run, on which its peers take turns; a fraction lets runs share one."""
    threads_per_peer: int = 1
    """CPU threads of each run. Numbers depend on it, so that all arms have the same."""

    def __post_init__(self) -> None:
        if self.peers < 2:
            raise PeercollabError(
                f"--peers is {self.peers}: a comparison needs 2 or more, and arms of one model "
                "have one by themselves"
            )
        _ = self.pool, self.run

    @property
    def pool(self) -> ExecutionOptions:
        """What one run asks of the cluster."""
        return replace(self.run, peers=1, executor=self.executor, address=self.address)

    @property
    def run(self) -> ExecutionOptions:
        """How a run goes on in the place that it was given."""
        return ExecutionOptions(
            peers=self.peers,
            executor="local",
            device=self.device,
            gpus_per_peer=self.gpus_per_peer,
            threads_per_peer=self.threads_per_peer,
        )


@dataclass(frozen=True)
class CompareOptions:
    """Train in several ways with several seeds, and say which is better, and whether by luck.

    The same command goes on with a comparison that was interrupted; arms and seeds may be added.
    """

    out: Annotated[Path | None, unless_given("must be given")] = None
    """Folder of the comparison."""
    data: str = DEMO
    """An interaction file, or demo: a synthetic log made on the spot."""
    arms: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            help=f"Ways to train: {', '.join(RECIPES)}; or NAME=OPTIONS with options of train, "
            "such as 'wide=--hidden-size 256'."
        ),
    ] = ARMS
    seeds: int = 5
    """Seeds that every arm is trained with: --seed, and the numbers after it."""
    baseline: Annotated[str | None, unless_given("solo-long, else solo, else the first arm")] = None
    """The arm that the others are compared with."""
    trials: int = 0
    """Random options, drawn alike for all arms, that each arm is tried with on validation first:
    learning rate, dropout, and those of its rule; 0 takes all options as they are."""
    read: ReadOptions = field(default_factory=ReadOptions)
    prepare: PrepareOptions = field(default_factory=PrepareOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    execution: RunsOptions = field(default_factory=RunsOptions)

    def __post_init__(self) -> None:
        if self.out is None:
            raise PeercollabError(
                "--out is missing: name a folder for the comparison (see peercollab compare --help)"
            )
        if self.seeds < 1:
            raise PeercollabError(f"--seeds is {self.seeds}: give 1 or more")
        if self.trials < 0:
            raise PeercollabError(f"--trials is {self.trials}: give 0 or more")
        names = [told.partition("=")[0] for told in self.arms]
        for name in names:
            if names.count(name) > 1:
                raise PeercollabError(f"--arms: {name} is there twice: give each arm its own name")
        # What is wrong with an arm is told before how many there are.
        _ = self.made_arms
        if len(names) < 2:
            raise PeercollabError("--arms: give 2 or more, as one alone is compared with nothing")
        if self.baseline is not None and self.baseline not in names:
            raise PeercollabError(
                f"--baseline {self.baseline} is none of the arms: take one of {', '.join(names)}"
            )

    @property
    def folder(self) -> Path:
        """Where the comparison lies, or will lie."""
        assert self.out is not None
        return self.out

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds themselves."""
        return [self.training.seed + number for number in range(self.seeds)]

    @property
    def compared_with(self) -> str:
        """The name of the baseline."""
        names = [told.partition("=")[0] for told in self.arms]
        wanted = (self.baseline, "solo-long", "solo", names[0])
        return next(name for name in wanted if name in names)

    def base(self) -> TrainOptions:
        """What all arms have in common, as options of a run."""
        return TrainOptions(
            out=self.folder,
            data=self.data,
            read=self.read,
            prepare=self.prepare,
            model=self.model,
            training=self.training,
            transplant=TransplantOptions(),
            execution=self.execution.run,
        )

    @cached_property
    def made_arms(self) -> list[Arm]:
        """The arms, in the order given."""
        base = self.base()
        return [make_arm(told, base) for told in self.arms]

    def command(self) -> str:
        """The command that asks for this, with the data's name in place of its path."""
        words = ["peercollab", "compare", "--data", Path(self.data).name]
        now = flat_options(asdict(self))
        given = {name: now[name] for name, default in _defaults().items() if now[name] != default}
        for name, value in given.items():
            option = f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(option if value else option.replace("--", "--no-", 1))
            else:
                words += [option, *map(str, value if isinstance(value, tuple) else [value])]
        return shlex.join(words)

    def as_json(self) -> dict[str, Any]:
        """All options, and which arm the others are compared with."""
        return asdict(self) | {"out": str(self.folder), "compared_with": self.compared_with}


def require_no_option_of_an_arm(words: Sequence[str]) -> None:
    """Refuse an option of training that not all arms can share, with what to do.

    Parameters
    ----------
    words
        Of the command line, behind ``compare``.

    Raises
    ------
    PeercollabError
        There is one.
    """
    of_arms = {"preset", "config", *option_names()} - set(option_names(CompareOptions))
    for word in words:
        option = word.partition("=")[0].replace("_", "-")
        if option.startswith("--") and option[2:] in of_arms - {"resume", "overwrite"}:
            raise PeercollabError(
                f"{option} is for an arm to say, as in --arms solo 'mine={option} ...': see "
                "docs/compare.md"
            )


@cache
def _defaults() -> dict[str, Any]:
    """Of the options that are told in a command."""
    defaults = flat_options(asdict(CompareOptions(out=Path())))
    return {
        name: default
        for name, default in defaults.items()
        if name not in ("out", "data", "address", "executor")
    }
