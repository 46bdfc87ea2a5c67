"""How a peer is trained, and how its work is judged."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from peercollab.command_line import unless_given
from peercollab.errors import PeercollabError
from peercollab.models.model import LossName, ModelSettings, TargetsOf
from peercollab.training.gbce import GBCE_CALIBRATION, GBCE_NEGATIVES
from peercollab.training.precision import Precision
from peercollab.training.sampled_softmax import SAMPLED_NEGATIVES
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
    batch_size: Annotated[int | None, unless_given("128; 2048 for bpr-mf")] = None
    """Windows of user histories in a batch; of bpr-mf, pairs of user and item."""
    loss: Annotated[LossName | None, unless_given("full; bpr for bpr-mf; a network's own")] = None
    """full: softmax over the whole catalogue; sampled: over the target and negatives drawn by
    popularity; gbce: gSASRec's binary cross-entropy; bpr: the item before one that the user does
    not have; model: what a network of your own says. sampled and gbce are for large catalogues."""
    targets: Annotated[TargetsOf | None, unless_given("every")] = None
    """Learn from every item of a window, given those before it, or from its last one alone."""
    negatives: Annotated[int | None, unless_given("4096 for sampled, 256 for gbce")] = None
    """Of sampled: items drawn for a whole step; of gbce: for each target."""
    calibration: Annotated[float | None, unless_given("0.75")] = None
    """Of gbce: from 0, plain binary cross-entropy, to 1, as if all items were negatives."""
    weight_decay: float = 0.0
    """L2 penalty that Adam adds to the gradients; of --loss bpr on the vectors of a batch alone."""
    schedule: Schedule = "constant"
    """How the learning rate goes: constant stays, cosine falls to 0 over all --epochs."""
    lr_spread: bool = True
    """Give peers different learning rates: of two, one has half of --lr, the other all."""
    init: Annotated[Init | None, unless_given("own, or as the rule says")] = None
    """Weights to begin with: every peer's own, or the same for all."""
    precision: Precision = "auto"
    """Numbers of the products of matrices in training: fp32, bf16, or what suits the device."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, less time a step on a GPU."""
    ema: float = 0.0
    """Rank and keep a moving average of each peer's weights with this decay, such as 0.999, at most
    (1+t)/(10+t) after t steps; an exchange enters it by the steps that follow."""
    swa: int = 0
    """Rank and keep the mean of each peer's weights at the ends of its last so many epochs (2 or
    more; 0: off); an exchange at an epoch's end enters it by the steps that follow."""
    seed: int = 10
    """Where all random numbers come from; every peer draws its own stream of them."""
    keep_seen: bool = False
    """Rank items that the user has seen already, too."""

    def __post_init__(self) -> None:
        if self.loss is not None:
            self.require_loss()
        for name in ("epochs", "batch_size", "validate_every"):
            if (value := getattr(self, name)) is not None and value < 1:
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
        if self.swa < 0 or self.swa == 1:
            raise PeercollabError(f"--swa is {self.swa}: give 2 epochs or more, or 0 (off)")
        if self.ema and self.swa:
            raise PeercollabError(
                f"--ema {self.ema} and --swa {self.swa} are averages of the same weights, and one "
                "is kept: leave one of them out"
            )

    def of_model(self, model: ModelSettings) -> "TrainingOptions":
        """The same with what the model is trained with where nothing was asked for.

        Raises
        ------
        PeercollabError
            The model cannot be trained so.
        """
        filled = replace(
            self,
            batch_size=self.batch_size or model.batch_size,
            loss=self.loss or model.loss,
            targets=self.targets or model.targets,
        )
        filled.require_loss()
        told = model.where
        if model.of_users and self.targets is not None:
            raise PeercollabError(
                f"--targets has no effect with {told}, which learns from pairs of user and item: "
                "leave it out"
            )
        if filled.loss == "bpr" and not model.of_users:
            raise PeercollabError(
                f"--loss bpr is for models of users, and {told} reads histories: take full, "
                "sampled or gbce, or --model bpr-mf"
            )
        if filled.loss == "model" and model.loss != "model":
            raise PeercollabError(
                f"--loss model is for networks of your own that have a loss, and {told} has none: "
                "leave it out"
            )
        if self.targets == "every" and not model.is_causal:
            raise PeercollabError(
                f"--targets every would let {told} see what it has to tell, as it is "
                "bidirectional: leave it out"
            )
        return filled

    @property
    def loss_negatives(self) -> int:
        """Items drawn: what was asked for, else what the loss has by default."""
        return self.negatives or (SAMPLED_NEGATIVES if self.loss == "sampled" else GBCE_NEGATIVES)

    @property
    def gbce_calibration(self) -> float:
        """gBCE's t: what was asked for, else the published one."""
        return GBCE_CALIBRATION if self.calibration is None else self.calibration

    def require_loss(self) -> None:
        """Refuse options that the loss does not have."""
        if self.negatives is not None:
            if self.loss not in ("sampled", "gbce"):
                raise PeercollabError(
                    f"--negatives has no effect with --loss {self.loss}: leave it out"
                )
            if self.negatives < 1:
                raise PeercollabError(f"--negatives is {self.negatives}: give 1 or more")
        if self.calibration is not None:
            if self.loss != "gbce":
                raise PeercollabError(
                    f"--calibration has no effect with --loss {self.loss}: leave it out"
                )
            if not 0 <= self.calibration <= 1:
                raise PeercollabError(
                    f"--calibration is {self.calibration}: give a number from 0 to 1"
                )
        if self.loss == "sampled" and self.weight_decay:
            raise PeercollabError(
                "--weight-decay is not possible with --loss sampled, under which the optimizer "
                "sees few of the rows at a time: leave it out"
            )
