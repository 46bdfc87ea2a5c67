"""All peers of a run as the coordinator sees them, wherever they live."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from peercollab.actors.messages import PeerReport, Soup
from peercollab.actors.peer import Peer
from peercollab.results.checkpoint import Digests
from peercollab.transplant.grafting import Graft
from peercollab.transplant.layers import LayerMap
from peercollab.transplant.plan import LayerStatistics, TransplantPlan
from peercollab.transplant.rules.rule import Select


class PeerGroup(Protocol):
    """The verbs of a round. Peers are counted from 0; those that are away are asked nothing.

    Attributes
    ----------
    size
        All peers of the run.
    present
        Those that are there, ascending.
    bytes_handled
        Bytes of messages so far between the caller and the peers; 0 where there are none.
    """

    present: Sequence[int]
    bytes_handled: int

    @property
    def size(self) -> int: ...

    def layers(self) -> dict[int, LayerMap]:
        """Every peer's layers."""

    def steps(self) -> int:
        """Steps of an epoch, for every peer the same."""

    def train(self, round: int, stop: int) -> dict[int, str | None]:
        """Have every peer train up to a step of the epoch; why it sits the round out, or None."""

    def rank(self, round: int) -> dict[int, PeerReport]:
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

    def restore(self, folder: Path) -> dict[int, int]:
        """Have every peer go back to its state in a folder; the round at whose end it had that."""

    def follow(self, peers: Sequence[int], folder: Path, leader: int) -> None:
        """Have some peers go on from where the leader's state in a folder is."""

    def soup(self, select: Select) -> Soup:
        """Average all peers' best states, and save the average as the kept model."""


class LocalPeers:
    """Peers in this process, one after another."""

    bytes_handled = 0

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.peers = peers
        self.present: Sequence[int] = range(len(peers))

    @property
    def size(self) -> int:
        return len(self.peers)

    def layers(self) -> dict[int, LayerMap]:
        return {place: peer.layers() for place, peer in self._there()}

    def steps(self) -> int:
        return self.peers[self.present[0]].steps()

    def train(self, round: int, stop: int) -> dict[int, str | None]:
        return {place: peer.train(round, stop) for place, peer in self._there()}

    def rank(self, round: int) -> dict[int, PeerReport]:
        return {place: peer.rank(round) for place, peer in self._there()}

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
        for _, peer in self._there():
            peer.settle()

    def checkpoint(self, folder: Path) -> Digests:
        files: Digests = {}
        for _, peer in self._there():
            files |= peer.checkpoint(folder)
        return files

    def restore(self, folder: Path) -> dict[int, int]:
        return {place: peer.restore(folder) for place, peer in self._there()}

    def follow(self, peers: Sequence[int], folder: Path, leader: int) -> None:
        for peer in peers:
            self.peers[peer].follow(folder, leader + 1)

    def soup(self, select: Select) -> Soup:
        (_, first), *_ = there = self._there()
        return first.soup(select, *(peer.ingredient() for _, peer in there))

    def _there(self) -> list[tuple[int, Peer]]:
        return [(place, self.peers[place]) for place in self.present]
