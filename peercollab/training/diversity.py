"""What makes peers differ besides their random numbers and learning rates."""

from dataclasses import dataclass
from typing import Annotated, Literal

from peercollab.command_line import unless_given
from peercollab.errors import PeercollabError
from peercollab.models.model import ModelSettings

Augment = Literal["none", "crop", "mask", "reorder"]


@dataclass(frozen=True)
class DiversityOptions:
    """Differences between peers, besides seed and learning rate."""

    dropout_spread: float = 0.0
    """Peers' dropout goes in even steps from --dropout less this to --dropout plus this."""
    augment: Annotated[tuple[Augment, ...], unless_given("none")] = ()
    """What each peer in turn does to training windows: crop, mask, reorder a part, or none."""
    augment_share: Annotated[float | None, unless_given("0.2")] = None
    """Share of each window that is cropped away, masked or reordered."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout_spread < 1:
            raise PeercollabError(
                f"--dropout-spread is {self.dropout_spread}: give a number from 0 up to, not "
                "including, 1"
            )
        if self.augment_share is not None:
            if not set(self.augment) - {"none"}:
                raise PeercollabError(
                    "--augment-share has no effect without --augment crop, mask or reorder"
                )
            if not 0 < self.augment_share < 1:
                raise PeercollabError(
                    f"--augment-share is {self.augment_share}: give a number between 0 and 1"
                )

    def require_peers(self, peers: int) -> None:
        """Refuse differences that so many peers cannot have.

        Raises
        ------
        PeercollabError
            An option would do nothing.
        """
        if self.dropout_spread and peers == 1:
            raise PeercollabError("--dropout-spread has no effect with --peers 1: leave it out")
        if len(self.augment) > peers:
            raise PeercollabError(
                f"--augment names {len(self.augment)} kinds for {peers} "
                f"peer{'s' if peers > 1 else ''}: name one for each peer at most"
            )

    def require_model(self, model: ModelSettings) -> None:
        """Refuse differences that peers of this model cannot have.

        Raises
        ------
        PeercollabError
            An option would do nothing.
        """
        told = model.where
        if self.dropout_spread and model.dropout_share is None:
            raise PeercollabError(f"--dropout-spread has no effect with {told}: leave it out")
        if model.of_users and set(self.augment) - {"none"}:
            raise PeercollabError(
                f"--augment has no effect with {told}, which reads no histories: leave it out"
            )
        if "mask" in self.augment and not model.can_mask:
            raise PeercollabError(
                f"--augment mask has no effect with {told}, which is given all items: take crop or "
                "reorder"
            )

    def dropout(self, base: float | None, peer: int, peers: int) -> float | None:
        """The dropout of peer number `peer`, from 1; a single one has the base.

        Raises
        ------
        PeercollabError
            It would not lie from 0 up to, not including, 1.
        """
        if base is None or peers == 1 or not self.dropout_spread:
            return base
        own = base + self.dropout_spread * (2 * (peer - 1) / (peers - 1) - 1)
        if not 0 <= own < 1:
            raise PeercollabError(
                f"--dropout-spread {self.dropout_spread:g} around --dropout {base:g} gives peer "
                f"{peer} {own:g}: it must stay from 0 up to, not including, 1"
            )
        return own

    def augmentation(self, peer: int) -> "Augmentation":
        """What peer number `peer`, from 1, does to its windows."""
        kind = self.augment[(peer - 1) % len(self.augment)] if self.augment else "none"
        return Augmentation(kind, 0.2 if self.augment_share is None else self.augment_share)


@dataclass(frozen=True)
class Augmentation:
    """What is done to a share of each training window, anew in every epoch."""

    kind: Augment = "none"
    share: float = 0.2
