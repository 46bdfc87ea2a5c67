"""What a run needs of the peers, and the executor that keeps them in this process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch

from peercollab.actors.coordinator import Coordinator
from peercollab.actors.group import LocalPeers
from peercollab.actors.messages import Best, LayerArrays, PeerProgress, PeerSetup, SharedSetup, Soup
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.peer import Peer
from peercollab.actors.record import RoundRecord
from peercollab.data.sequences import Histories, Int32Array
from peercollab.data.split import HoldOut
from peercollab.errors import PeercollabError
from peercollab.results.checkpoint import Digests

Watch = Callable[[Sequence[PeerProgress]], None]


class Executor(Protocol):
    """Peers and their coordinator, from the driver's side; a context that cleans up."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def numbers(self) -> str:
        """In which numbers the peers train, and why."""

    def run_round(self, round: int, watch: Watch) -> RoundRecord:
        """One round; `watch` is called with every peer's progress as it goes on.

        This and what follows can raise `LostError`, after which `await_return` and `restore` are
        due.
        """

    @property
    def away(self) -> list[int]:
        """Peers that were lost and take no part, ascending from 0."""

    def await_return(self, proof: Path) -> str:
        """Wait until every actor that was lost is there again, in whatever state.

        A peer that does not come back in time, or does not see the file as it is seen here, is away
        from then on.

        Returns
        -------
        str
            Why peers are newly away, as the end of a sentence, so far as it is known.

        Raises
        ------
        PeercollabError
            The coordinator does not come back in time.
        """

    def take_back(self, proof: Path) -> list[int]:
        """Peers that were away and are there again: they take part after the next `restore`."""

    def read(self, path: Path) -> list[str | None]:
        """What each peer reads in a small file; None where it is not there for it."""

    def checkpoint(self, folder: Path) -> Digests:
        """Write into a folder what all peers need to go on; the digests of the files."""

    def restore(self, folder: Path, best: Best | None) -> None:
        """Go back to what `checkpoint` wrote, when `best` was the best so far."""

    def finish(self) -> Soup | None:
        """End the rounds: make the soup that is kept, if one is wanted and peers were ranked."""

    def rank_selected(self, hold_out: HoldOut) -> Int32Array:
        """int32 ``[users]``: ranks of the held-out items under the kept model."""

    def weights(self, peer: int) -> LayerArrays:
        """All tensors of the model of one peer, counted from 0, as it is now."""


class LocalExecutor:
    """Peers one after another in this process, without Ray: for trying, testing and debugging.

    On a CPU the weights are the same, bit for bit, as with Ray and as many threads.
    """

    def __init__(
        self,
        options: ExecutionOptions,
        peers: Sequence[PeerSetup],
        shared: SharedSetup,
        histories: Histories,
    ) -> None:
        self._threads_before = torch.get_num_threads()
        self._watch: Watch = lambda progress: None
        self._peers = [
            Peer(own, shared, histories, local_device(options.device, place), self._tell)
            for place, own in enumerate(peers)
        ]
        self._coordinator = Coordinator(LocalPeers(self._peers), shared.transplant, shared.training)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads_before)

    def numbers(self) -> str:
        return self._peers[0].numbers()

    def run_round(self, round: int, watch: Watch) -> RoundRecord:
        self._watch = watch
        return self._coordinator.run_round(round)

    def read(self, path: Path) -> list[str | None]:
        return [peer.read(path) for peer in self._peers]

    def checkpoint(self, folder: Path) -> Digests:
        return self._coordinator.checkpoint(folder)

    def restore(self, folder: Path, best: Best | None) -> None:
        self._coordinator.restore(folder, best, range(len(self._peers)))

    @property
    def away(self) -> list[int]:
        return []

    def await_return(self, proof: Path) -> str:
        """Nobody is ever lost here."""
        return ""

    def take_back(self, proof: Path) -> list[int]:
        return []

    def finish(self) -> Soup | None:
        return self._coordinator.finish()

    def rank_selected(self, hold_out: HoldOut) -> Int32Array:
        return self._peers[0].rank_selected(hold_out)

    def weights(self, peer: int) -> LayerArrays:
        return {name: np.array(array) for name, array in self._peers[peer].weights().items()}

    def _tell(self) -> None:
        self._watch([peer.progress() for peer in self._peers])


def local_device(wanted: str, place: int) -> torch.device:
    """The device of the peer in that place, peers taking turns where there are several GPUs.

    Raises
    ------
    PeercollabError
        A GPU is wanted and there is none.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cuda" and not gpus:
        raise PeercollabError("--device cuda: torch sees no GPU here; take --device auto or cpu")
    if wanted == "cpu" or not gpus:
        return torch.device("cpu")
    return torch.device("cuda", place % gpus)


def peers_in_words(places: Sequence[int]) -> str:
    """Some peers, counted from 0, by their numbers."""
    numbers = [str(place + 1) for place in places]
    *most, last = numbers
    return f"peer {last}" if not most else f"peers {', '.join(most)} and {last}"
