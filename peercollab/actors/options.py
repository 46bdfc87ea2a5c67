"""Where the peers run."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from peercollab.command_line import unless_given
from peercollab.errors import PeercollabError


@dataclass(frozen=True)
class ExecutionOptions:
    """Where the peers run."""

    peers: int = 2
    """Peers that train together; one of them is kept."""
    executor: Literal["ray", "local"] = "ray"
    """ray: every peer is an actor of its own; local: one after another in this process, no Ray."""
    address: Annotated[str | None, unless_given("RAY_ADDRESS, else Ray starts here")] = None
    """Ray cluster to join; auto finds the one on this machine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes GPUs where there are any."""
    gpus_per_peer: float = 1.0
    """GPUs of each peer; a fraction such as 0.5 lets peers share one."""
    checkpoint_every: int = 1
    """Write all that is needed to go on with the run after every so many rounds."""
    rejoin_within: float = 300.0
    """Seconds within which a peer that was lost must be back, or the run stops, to be resumed."""
    threads_per_peer: Annotated[int | None, unless_given("cores divided by peers")] = None
    """CPU threads of each peer."""

    def __post_init__(self) -> None:
        if self.peers < 1:
            raise PeercollabError(f"--peers is {self.peers}: give 1 or more")
        if not (math.isfinite(self.gpus_per_peer) and self.gpus_per_peer > 0):
            raise PeercollabError(
                f"--gpus-per-peer is {self.gpus_per_peer}: give a number above 0 "
                "(--device cpu uses no GPU)"
            )
        if self.threads_per_peer is not None and self.threads_per_peer < 1:
            raise PeercollabError(f"--threads-per-peer is {self.threads_per_peer}: give 1 or more")
        if self.checkpoint_every < 1:
            raise PeercollabError(f"--checkpoint-every is {self.checkpoint_every}: give 1 or more")
        if not self.rejoin_within >= 0:
            raise PeercollabError(f"--rejoin-within is {self.rejoin_within}: give 0 or more")
        if self.address is not None and self.executor == "local":
            raise PeercollabError("--address has no effect with --executor local: leave one out")

    def threads(self, cores: int) -> int:
        """Threads of each peer when all peers share so many cores."""
        return self.threads_per_peer or max(1, cores // self.peers)
