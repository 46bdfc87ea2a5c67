"""All peers of a run as the coordinator sees them, wherever they live."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from peercollab.actors.messages import Graft, PeerReport, Soup
from peercollab.actors.peer import Peer
from peercollab.results.checkpoint import Digests
from peercollab.transplant.layers import LayerMap
from peercollab.transplant.plan import LayerStatistics, TransplantPlan
from peercollab.transplant.rules.rule import Select


class PeerGroup(Protocol):
    """The verbs of a round. Peers are counted from 0, and answers are in their order.

    Attributes
    ----------
    bytes_handled
        Bytes of messages so far between the caller and the peers; 0 where there are none.
    """

    bytes_handled: int

    def layers(self) -> list[LayerMap]:
        """Every peer's layers."""

    def steps(self) -> int:
        """Steps of an epoch, for every peer the same."""

    def train(self, round: int, stop: int) -> list[str | None]:
        """Have every peer train up to a step of the epoch; why it sits the round out, or None."""

    def rank(self, round: int) -> list[PeerReport]:
        """Have every peer rank validation where it is due, and say what the round came to."""

    def save_best(self, peer: int) -> None:
        """Have one peer save its ranked weights as the best so far."""

    def statistics(self, peers: Sequence[int], layers: Sequence[str]) -> list[LayerStatistics]:
        """Have some peers measure some of their layers."""

    def transplant(self, plan: TransplantPlan) -> list[Graft]:
        """Move what the plan names from donors to receivers, all at one time: one graft each."""

    def settle(self) -> None:
        """Have every peer note its state at the end of a round, to go back to if need be."""

    def checkpoint(self, folder: Path) -> Digests:
        """Have every peer write its state into a folder; the digests of all files."""

    def restore(self, folder: Path) -> None:
        """Have every peer go back to the state that lies in a folder."""

    def soup(self, select: Select) -> Soup:
        """Average all peers' best states, and save the average as the kept model."""


class LocalPeers:
    """Peers in this process, one after another."""

    bytes_handled = 0

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.peers = peers

    def layers(self) -> list[LayerMap]:
        return [peer.layers() for peer in self.peers]

    def steps(self) -> int:
        return self.peers[0].steps()

    def train(self, round: int, stop: int) -> list[str | None]:
        return [peer.train(round, stop) for peer in self.peers]

    def rank(self, round: int) -> list[PeerReport]:
        return [peer.rank(round) for peer in self.peers]

    def save_best(self, peer: int) -> None:
        self.peers[peer].save_best()

    def statistics(self, peers: Sequence[int], layers: Sequence[str]) -> list[LayerStatistics]:
        return [self.peers[peer].statistics(layers) for peer in peers]

    def transplant(self, plan: TransplantPlan) -> list[Graft]:
        # An export may be a view of the donor's weights; its copy is the snapshot of the exchange.
        snapshots = {
            request: {
                name: tuple(np.array(part) for part in parts)
                for name, parts in self.peers[request.donor].export(request).items()
            }
            for request in plan.requests()
        }
        return [
            self.peers[part.receivers[0]].graft(
                part, *(snapshots[plan.request(transfer)] for transfer in part.transfers)
            )
            for part in map(plan.of, plan.receivers)
        ]

    def settle(self) -> None:
        for peer in self.peers:
            peer.settle()

    def checkpoint(self, folder: Path) -> Digests:
        files: Digests = {}
        for peer in self.peers:
            files |= peer.checkpoint(folder)
        return files

    def restore(self, folder: Path) -> None:
        for peer in self.peers:
            peer.restore(folder)

    def soup(self, select: Select) -> Soup:
        return self.peers[0].soup(select, *(peer.ingredient() for peer in self.peers))
