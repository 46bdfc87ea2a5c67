"""All peers of a run as the coordinator sees them, wherever they live."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from peercollab.actors.peer import Graft, Peer, PeerReport
from peercollab.transplant.layers import LayerMap
from peercollab.transplant.plan import LayerStatistics, TransplantPlan


class PeerGroup(Protocol):
    """The verbs of a round. Answers are in the order of the peers.

    Attributes
    ----------
    bytes_handled
        Bytes of messages so far between the caller and the peers; 0 where there are none.
    """

    bytes_handled: int

    def layers(self) -> list[LayerMap]:
        """Every peer's layers."""

    def train(self, round: int) -> list[PeerReport]:
        """Have every peer train one epoch, and rank validation where it is due."""

    def save_best(self, peer: int) -> None:
        """Have one peer, counted from 0, save its weights as the best so far."""

    def statistics(self, layers: Sequence[str]) -> list[LayerStatistics]:
        """Have every peer measure some of its layers."""

    def transplant(self, plan: TransplantPlan) -> list[Graft]:
        """Move the layers that the plan names from donors to receivers, all at one time."""


class LocalPeers:
    """Peers in this process, one after another."""

    bytes_handled = 0

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.peers = peers

    def layers(self) -> list[LayerMap]:
        return [peer.layers() for peer in self.peers]

    def train(self, round: int) -> list[PeerReport]:
        return [peer.train(round) for peer in self.peers]

    def save_best(self, peer: int) -> None:
        self.peers[peer].save_best()

    def statistics(self, layers: Sequence[str]) -> list[LayerStatistics]:
        return [peer.statistics(layers) for peer in self.peers]

    def transplant(self, plan: TransplantPlan) -> list[Graft]:
        # An export is a view of the donor's weights; its copy is the snapshot of the round.
        snapshots = [
            {
                name: np.array(array)
                for name, array in self.peers[transfer.donor].export(list(transfer.keep)).items()
            }
            for transfer in plan.transfers
        ]
        return [
            self.peers[transfer.receiver].graft(transfer, snapshot)
            for transfer, snapshot in zip(plan.transfers, snapshots, strict=True)
        ]
