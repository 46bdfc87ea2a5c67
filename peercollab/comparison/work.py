"""The work of a comparison: what is trained, or ended as one, in a process wherever it may be."""

import json
import math
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open

from peercollab.actors.executor import local_device
from peercollab.actors.messages import PeerSetup
from peercollab.actors.pool import Pool
from peercollab.comparison.arms import Arm, Training
from peercollab.comparison.endings import end
from peercollab.disk import text_of, token_in
from peercollab.errors import PeercollabError
from peercollab.models.saved import WEIGHTS
from peercollab.options import TrainOptions
from peercollab.process_memory import forget_peak, peak_bytes
from peercollab.results.checkpoint import write_whole
from peercollab.results.heartbeat import last_beat
from peercollab.results.run_folder import BEST, CONFIG, RunFolder, read_config
from peercollab.resume import stored_options
from peercollab.run import Loaded, default_peers, train

# A run whose process was killed on another machine is silent for so long before it counts as gone.
SECONDS_TO_FALL_SILENT = 90.0
SECONDS_BETWEEN_LOOKS = 0.5

# What a machine has written, others see late where file systems are shared by NFS.
SECONDS_TO_BE_SEEN = 90.0


@dataclass(frozen=True)
class Outcome:
    """What a job came to, and what it took.

    Attributes
    ----------
    error
        Why there is no model; None if there is one.
    rounds
        Rounds trained.
    seconds
        Of all rounds, its peers one after another; of an end of several trainings, all of it.
    core_seconds, gpu_seconds
        The same times the threads, and the GPUs, that it had.
    peak_bytes, gpu_peak_bytes
        Most memory of its process while it was done, and the sum of that on each GPU; None where
        it was not measured.
    parameters
        Of one model.
    """

    error: str | None
    rounds: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    gpu_seconds: float = 0.0
    peak_bytes: int | None = None
    gpu_peak_bytes: int | None = None
    parameters: int = 0


class Job(Protocol):
    """Something to be done for a seed, with a folder for what comes of it."""

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> Path: ...

    @property
    def epochs(self) -> int:
        """The most that it trains."""

    @property
    def peers(self) -> int:
        """Those that train each of these epochs."""

    def do(self, loaded: Loaded) -> bool:
        """Do what is left of it, if anything is; whether anything was."""

    def outcome(self, seconds: float) -> Outcome:
        """What it came to, but for its memory; `seconds` are those that `do` has just taken.

        Those of an earlier process, which was interrupted, are not among them.
        """

    @property
    def has_gpu(self) -> bool:
        """Whether it is done on one."""


@dataclass(frozen=True)
class TrainingJob:
    """A training of one seed.

    Attributes
    ----------
    training
        What is trained.
    seed
        Its seed.
    folder
        The run's.
    """

    training: Training
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.training.name}, seed {self.seed}"

    @property
    def epochs(self) -> int:
        return self.training.options.training.epochs

    @property
    def peers(self) -> int:
        return self.training.options.execution.peers

    @property
    def options(self) -> TrainOptions:
        """Of the run."""
        options = self.training.options
        training = replace(options.training, seed=self.seed)
        return replace(options, out=self.folder, training=training)

    @property
    def has_model(self) -> bool:
        """Whether the model that it came to is there."""
        return (self.folder / BEST / WEIGHTS).is_file()

    def do(self, loaded: Loaded) -> bool:
        """Train, or go on with it from its last checkpoint."""
        folder = RunFolder(self.folder)
        _await_silence(self.folder)
        is_begun = (self.folder / CONFIG).is_file()
        is_done = is_begun and "test" in folder.metrics()
        if not is_done:
            if is_begun and folder.checkpoints.latest(print) is not None:
                named = (self.options.transplant.rule, self.options.model.model)
                train(stored_options(self.folder, named), loaded=loaded)
            else:
                shutil.rmtree(self.folder, ignore_errors=True)
                train(self.options, peers=self._peers(), loaded=loaded)
        # They take several times the room of the model.
        folder.checkpoints.remove()
        return not is_done

    def outcome(self, seconds: float) -> Outcome:
        rounds = RunFolder(self.folder).rounds()
        # All rounds tell theirs, also those before an interruption.
        seconds = sum(sum(record["seconds"].values()) for record in rounds)
        config = read_config(self.folder)
        return Outcome(
            error=None,
            rounds=len(rounds),
            seconds=seconds,
            core_seconds=seconds * config["threads"],
            gpu_seconds=seconds * config["execution"]["gpus_per_peer"] if self.has_gpu else 0.0,
            parameters=_parameters(self.folder),
        )

    @property
    def has_gpu(self) -> bool:
        return _is_on_gpu(self.options)

    def _peers(self) -> list[PeerSetup]:
        peers, stream = default_peers(self.options), self.training.stream
        return peers if stream is None else [replace(peer, stream=stream) for peer in peers]


@dataclass(frozen=True)
class EndingJob:
    """The end of several trainings of one seed.

    Attributes
    ----------
    arm
        Whose end.
    members
        What has to be trained before.
    seed
        Their seed.
    folder
        Where metrics and ranks go.
    """

    arm: Arm
    members: tuple[TrainingJob, ...]
    seed: int
    folder: Path
    epochs: int = 0
    peers: int = 0

    @property
    def name(self) -> str:
        return f"{self.arm.name}{self.arm.mark}, seed {self.seed}"

    def do(self, loaded: Loaded) -> bool:
        """Make one of them, and rank it."""
        assert self.arm.ending is not None
        if gone := [member.name for member in self.members if not member.has_model]:
            raise PeercollabError(
                f"{gone[0]}, is done, but its model is not there any more, and {self.arm.name} is "
                "made of it: give another folder with --out for this arm"
            )
        options = self._options
        with _threads(self._count_of_threads):
            end(
                self.arm.ending,
                [member.folder for member in self.members],
                self.folder,
                loaded.data,
                options.model.build(),
                keep_seen=options.training.keep_seen,
                device=local_device(options.execution.device, 0),
            )
        return True

    def outcome(self, seconds: float) -> Outcome:
        gpus = self._options.execution.gpus_per_peer if self.has_gpu else 0.0
        return Outcome(
            error=None,
            seconds=seconds,
            core_seconds=seconds * self._count_of_threads,
            gpu_seconds=seconds * gpus,
            parameters=_parameters(self.members[0].folder),
        )

    @property
    def has_gpu(self) -> bool:
        return _is_on_gpu(self._options)

    @property
    def _options(self) -> TrainOptions:
        return self.arm.trainings[0].options

    @property
    def _count_of_threads(self) -> int:
        # As many as its members had.
        return int(read_config(self.members[0].folder)["threads"])


def read_outcome(job: Job) -> Outcome | None:
    """What a job came to, if it was done."""
    return outcome_in(_beside(job, "outcome.json"))


def outcome_in(path: Path) -> Outcome | None:
    """The outcome in a file; None where there is none, or no whole one."""
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_outcome(job: Job, outcome: Outcome) -> None:
    """Write down what a job came to, also one that failed before it had made its folder."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    write_whole(_beside(job, "outcome.json"), json.dumps(asdict(outcome), indent=2) + "\n")


def require_seen(job: Job, outcome: Outcome) -> None:
    """Make sure that what a process has written, on another machine perhaps, is to be seen here.

    Raises
    ------
    PeercollabError
        It is not: that machine does not share the folder.
    """
    deadline = time.monotonic() + SECONDS_TO_BE_SEEN
    while read_outcome(job) != outcome:
        if time.monotonic() > deadline:
            raise PeercollabError(
                f"{job.name} is done, but {job.folder} does not show it: --out has to be a folder "
                "that all nodes of the cluster share"
            )
        time.sleep(SECONDS_BETWEEN_LOOKS)


def require_shared(folder: Path, pool: Pool) -> None:
    """Make sure that the folder is seen wherever work may be done, before any is.

    Raises
    ------
    PeercollabError
        It is not.
    """
    with token_in(folder) as (path, token):
        for name, seen in pool.everywhere(text_of, path):
            if seen != token:
                raise PeercollabError(
                    f"{name} does not see {folder}: --out has to be a folder that all nodes of the "
                    "cluster share, under the same path"
                )


def carry_out(job: Job, loaded: Loaded, *, has_own_process: bool) -> Outcome:
    """Do a job, and write down what it came to.

    Whatever is wrong with it is its outcome, and no reason to stop the others.

    Parameters
    ----------
    job
        What is to be done.
    loaded
        The data.
    has_own_process
        Whether this process does nothing else, so that its memory is the job's in any case.
    """
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    is_known = forget_peak() or has_own_process
    started = time.monotonic()
    try:
        # Peers take turns on all GPUs that this process sees.
        gpus = range(torch.cuda.device_count() if job.has_gpu else 0)
        forget_peaks_on(gpus)
        with _beside(job, "log").open("a", encoding="utf-8") as log, redirect_stdout(log):
            was_left = job.do(loaded)
        outcome = job.outcome(time.monotonic() - started)
        if was_left:
            outcome = replace(
                outcome,
                peak_bytes=peak_bytes() if is_known else None,
                gpu_peak_bytes=sum(map(torch.cuda.max_memory_allocated, gpus)) or None,
            )
    except PeercollabError as error:
        outcome = Outcome(error=str(error))
    except Exception as error:
        outcome = Outcome(error=f"{type(error).__name__}: {error}")
    write_outcome(job, outcome)
    return outcome


def _beside(job: Job, what: str) -> Path:
    return job.folder.with_name(f"{job.folder.name}.{what}")


def _await_silence(run: Path) -> None:
    """Of a driver that was killed, what it had started may go on for a moment."""
    deadline = time.monotonic() + SECONDS_TO_FALL_SILENT
    while (beat := last_beat(run)) and beat.is_alive and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many threads of torch, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def forget_peaks_on(gpus: Iterable[int]) -> None:
    """Count the most memory that is held on some GPUs from here on."""
    # Who has not used a GPU yet has no peak there, and may not ask for it to be forgotten.
    if torch.cuda.is_initialized():
        for gpu in gpus:
            torch.cuda.reset_peak_memory_stats(gpu)


def _is_on_gpu(options: TrainOptions) -> bool:
    return local_device(options.execution.device, 0).type == "cuda"


def _parameters(run: Path) -> int:
    with safe_open(run / BEST / WEIGHTS, "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
