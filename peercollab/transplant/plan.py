"""Who gives which layers to whom, and how much: what the coordinator decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from peercollab.transplant.exchange import Exchange

# The criterion's value of each layer of a peer; empty for a rule that measures nothing.
LayerStatistics = Mapping[str, float]


@dataclass(frozen=True)
class Transfer:
    """What one peer receives from another.

    Attributes
    ----------
    receiver, donor
        Peers, counted from 0.
    shares
        For each layer that travels, the donor's share of the receiver's new weights; what is
        left of 1 after all donors is the receiver's own.
    """

    receiver: int
    donor: int
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Request:
    """What is asked of a donor: the same for all its receivers, unless one is named."""

    exchange: Exchange
    peers: tuple[int, ...]
    donor: int
    receiver: int | None
    layers: tuple[str, ...]


@dataclass(frozen=True)
class TransplantPlan:
    """All transfers of one exchange; every donor gives what it held before.

    Attributes
    ----------
    exchange
        The occasion.
    peers
        Who takes part with its weights, ascending.
    receivers
        Who mixes, ascending.
    transfers
        Who gives what to whom.
    addressed
        Whether what a donor gives depends on the receiver.
    """

    exchange: Exchange
    peers: tuple[int, ...]
    receivers: tuple[int, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    addressed: bool = False

    def requests(self) -> list[Request]:
        """What is asked of donors, each thing once."""
        return list(dict.fromkeys(self.request(transfer) for transfer in self.transfers))

    def request(self, transfer: Transfer) -> Request:
        """What the donor of a transfer is asked for."""
        return Request(
            self.exchange,
            self.peers,
            transfer.donor,
            transfer.receiver if self.addressed else None,
            tuple(transfer.shares),
        )

    def received(self) -> dict[str, float]:
        """For each layer that travels the shares of all transfers together."""
        total: dict[str, float] = {}
        for transfer in self.transfers:
            for layer, share in transfer.shares.items():
                total[layer] = total.get(layer, 0.0) + share
        return total

    def of(self, receiver: int) -> "TransplantPlan":
        """The part of the plan that one receiver must know."""
        own = tuple(transfer for transfer in self.transfers if transfer.receiver == receiver)
        return replace(self, receivers=(receiver,), transfers=own)


def from_all_others(
    receivers: Sequence[int], donors: Sequence[int], layers: Sequence[str], share: float
) -> tuple[Transfer, ...]:
    """Every donor gives every other peer the same share of every layer, 0 included."""
    return tuple(
        Transfer(receiver, donor, dict.fromkeys(layers, share))
        for receiver in receivers
        for donor in donors
        if donor != receiver
    )
