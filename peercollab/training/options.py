"""How a peer is trained, and how its work is judged."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from peercollab.command_line import unless_given
from peercollab.errors import PeercollabError
from peercollab.training.schedule import Schedule

Init = Literal["own", "shared"]


@dataclass(frozen=True)
class TrainingOptions:
    """Training."""

    epochs: int = 100
    """Most epochs to train; an epoch is a round."""
    patience: int = 10
    """Stop after so many epochs without a better validation NDCG@10; 0 never stops early."""
    validate_every: int = 1
    """Rank validation after every so many epochs, and after the last."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    batch_size: int = 128
    """Windows of user histories in a batch."""
    weight_decay: float = 0.0
    """L2 penalty that Adam adds to the gradients."""
    schedule: Schedule = "constant"
    """How the learning rate goes: constant stays, cosine falls to 0 over all --epochs."""
    lr_spread: bool = True
    """Give peers different learning rates: of two, one has half of --lr, the other all."""
    init: Annotated[Init | None, unless_given("own, or as the rule says")] = None
    """Weights to begin with: every peer's own, or the same for all."""
    ema: float = 0.0
    """Rank and keep a moving average of each peer's weights with this decay, such as 0.999; it
    moves with training steps, so an exchange enters it by the steps that follow."""
    seed: int = 10
    """Where all random numbers come from; every peer draws its own stream of them."""
    keep_seen: bool = False
    """Rank items that the user has seen already, too."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every"):
            if (value := getattr(self, name)) < 1:
                raise PeercollabError(f"--{name.replace('_', '-')} is {value}: give 1 or more")
        for name in ("patience", "seed"):
            if (value := getattr(self, name)) < 0:
                raise PeercollabError(f"--{name} is {value}: give 0 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise PeercollabError(f"--lr is {self.lr}: give a number above 0, such as 1e-3")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise PeercollabError(f"--weight-decay is {self.weight_decay}: give 0 or more")
        if not 0 <= self.ema < 1:
            raise PeercollabError(
                f"--ema is {self.ema}: give a decay from 0 (off) up to, not including, 1"
            )
