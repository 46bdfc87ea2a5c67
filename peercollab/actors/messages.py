"""What peers are made of, and what they say: everything that goes between actors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from peercollab.models.model import ModelSettings
from peercollab.training.diversity import Augmentation
from peercollab.training.options import TrainingOptions
from peercollab.transplant.options import Transplant

Phase = Literal["wait", "train", "rank", "exchange"]
LayerArrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PeerSetup:
    """What is a peer's own.

    Attributes
    ----------
    number, stream
        Its number, from 1, and its stream of random numbers.
    learning_rate, dropout, augmentation
        How it trains; a dropout of None is the one of all.
    """

    number: int
    stream: int
    learning_rate: float
    dropout: float | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class SharedSetup:
    """What all peers of a run have in common; `best` is the folder of the kept model."""

    model: ModelSettings
    training: TrainingOptions
    transplant: Transplant
    threads: int
    best: Path


@dataclass(frozen=True)
class PeerProgress:
    """Where a peer is: `step` of `steps` in this round's epoch, and the mean loss so far.

    While it ranks, steps are users.
    """

    peer: int
    round: int
    step: int
    steps: int
    loss: float
    phase: Phase


@dataclass(frozen=True)
class PeerReport:
    """What a round's training came to, and validation where it was due.

    Attributes
    ----------
    loss, positions
        None and 0 of a peer that sits the round out.
    learning_rate
        None of a peer that is away.
    seconds
        What training and ranking took.
    trouble
        Why it sits the round out, if it does.
    """

    peer: int
    loss: float | None
    learning_rate: float | None
    positions: int
    validation: dict[str, float] | None
    seconds: dict[str, float]
    trouble: str | None = None

    @classmethod
    def of_absent(cls, peer: int, trouble: str) -> "PeerReport":
        """What there is to say of a peer that is away."""
        return cls(peer, None, None, 0, None, {}, trouble)


@dataclass(frozen=True)
class Best:
    """A ranked state: whose, from which round, and its validation NDCG@10."""

    peer: int
    round: int
    value: float


@dataclass(frozen=True)
class Soup:
    """The average of some peers' best states, and its metrics on validation."""

    ingredients: list[Best]
    validation: dict[str, float]
