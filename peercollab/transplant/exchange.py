"""When peers exchange: the occasions within a run, and what all peers know of each."""

from dataclasses import dataclass
from typing import Literal

from peercollab.errors import PeercollabError

# Steps between two exchanges, or once an epoch.
Every = int | Literal["epoch"]


@dataclass(frozen=True)
class Exchange:
    """One occasion at which peers exchange.

    Attributes
    ----------
    round
        The epoch, from 1.
    step
        Steps of the epoch that lie behind the peers.
    draw
        Seed of all random choices that the peers must make alike.
    pull
        The learning rate now, as a share of that at the start.
    """

    round: int
    step: int
    draw: int = 0
    pull: float = 1.0


@dataclass(frozen=True)
class Timetable:
    """After which steps of which epochs peers exchange.

    Attributes
    ----------
    steps, epochs
        Steps of an epoch, and epochs at most.
    every
        Steps between exchanges, counted from the start of each epoch and at most one epoch; or
        "epoch", for its end alone.
    at_end
        Whether an epoch ends with an exchange in any case.
    first, last
        Shares of the run between which exchanges happen, both included.
    """

    steps: int
    epochs: int
    every: Every = "epoch"
    at_end: bool = False
    first: float = 0.0
    last: float = 1.0

    def due(self, round: int) -> list[int]:
        """The steps of an epoch, ascending, after which an exchange is due."""
        every = self.steps if self.every == "epoch" else min(self.every, self.steps)
        steps = list(range(every, self.steps + 1, every))
        if self.at_end and steps[-1] != self.steps:
            steps.append(self.steps)
        return [step for step in steps if self.first <= self.share(round, step) <= self.last]

    def share(self, round: int, step: int) -> float:
        """The share of the run that lies behind the peers."""
        return ((round - 1) * self.steps + step) / (self.epochs * self.steps)

    def require_exchange(self, *, before_the_end: bool) -> None:
        """Refuse a timetable by which peers would never exchange.

        Parameters
        ----------
        before_the_end
            Whether an exchange after the last step of the run comes too late to count. A run
            of a single epoch without a window is let be, all the same.

        Raises
        ------
        PeercollabError
            No exchange lies between `first` and `last`.
        """
        due = [
            self.share(round, step)
            for round in range(1, self.epochs + 1)
            for step in self.due(round)
        ]
        if before_the_end and self.first > 0:
            due = [share for share in due if share < 1]
        if not due:
            raise PeercollabError(
                f"no exchange lies between --exchange-from {self.first:g} and --exchange-until "
                f"{self.last:g} of {self.epochs} epochs of {self.steps} steps"
                f"{' and before the last ranking' if before_the_end else ''}: widen them"
            )
