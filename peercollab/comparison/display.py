"""What a person sees of a comparison while it goes on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from peercollab.comparison.work import Job, Outcome
from peercollab.results.display import duration, standard_output
from peercollab.results.heartbeat import last_beat

SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Done:
    """How many runs have come to a good end, of how many, and how many failed."""

    done: int
    all: int
    failed: int = 0

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.all} runs done{failed}"


class RunsDisplay:
    """On a terminal a table of the runs that go on; elsewhere a line for each that is done.

    Parameters
    ----------
    jobs
        What is to be done.
    done
        How many of the whole were done before.
    console
        Where to show it; standard output by default.

    Attributes
    ----------
    progress
        How far it is.
    """

    def __init__(self, jobs: Sequence[Job], done: int, console: Console | None = None) -> None:
        self._jobs = list(jobs)
        self._work_done = 0
        self.progress = Done(done, all=done + len(jobs))
        self._console = console or standard_output()
        self._started = self._looked = time.monotonic()
        self._view = Group()
        self._live = Live(get_renderable=lambda: self._view, console=self._console)

    def __enter__(self) -> Self:
        if self._jobs:
            most = max(job.epochs for job in self._jobs)
            up_to = f"; epochs: up to {most}" if most else ""
            left = f"runs to do: {len(self._jobs)} of {self.progress.all}{up_to}"
            self._console.out(left, highlight=False)
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def watch(self) -> None:
        """Look where the runs are."""
        now = time.monotonic()
        if self._console.is_interactive and now - self._looked >= SECONDS_BETWEEN_LOOKS:
            self._looked = now
            self._view = Group(self._table(), Text(self._caption()))

    def done(self, job: Job, outcome: Outcome) -> None:
        """Tell what a run came to."""
        self._jobs.remove(job)
        now, told = self.progress, "ranked"
        if outcome.error:
            self.progress = replace(now, failed=now.failed + 1)
            told = f"failed: {outcome.error}"
        else:
            self.progress = replace(now, done=now.done + 1)
            self._work_done += _work([job])
            if outcome.rounds:
                told = f"{outcome.rounds} rounds, {duration(outcome.seconds)}"
        place = now.done + now.failed + 1
        self._console.out(f"{place}/{now.all}  {job.name}: {told}{self._left()}", highlight=False)

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        for name in ("run", "round", "step", "loss"):
            table.add_column(name, justify="left" if name == "run" else "right")
        for job in self._jobs:
            beat = last_beat(job.folder)
            if beat is not None and beat.progress:
                at = beat.progress[-1]
                most = job.epochs
                table.add_row(
                    job.name,
                    f"{at['round']}/{most}",
                    f"{at['step']}/{at['steps']}",
                    f"{at['loss']:.4f}",
                )
        return table

    def _caption(self) -> str:
        return f"{self.progress}, elapsed {duration(self._elapsed)}{self._left()}"

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _left(self) -> str:
        """A guess: as if an epoch of a peer took what it did in the runs that are done.

        What goes on counts as not begun, and where some stop early it is taken that the others do.
        """
        left = _work(self._jobs)
        if not (left and self._work_done):
            return ""
        return f", about {duration(self._elapsed * left / self._work_done)} left"


def _work(jobs: Sequence[Job]) -> int:
    """Epochs of peers that these may train."""
    return sum(job.epochs * job.peers for job in jobs)
