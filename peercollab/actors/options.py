"""Where the peers run."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from peercollab.command_line import unless_given
from peercollab.errors import PeercollabError

# The least share of a GPU that Ray takes.
LEAST_SHARE = 0.0001

ExecutorName = Literal["ray", "local"]
Placement = Literal["pack", "spread", "strict-spread"]


@dataclass(frozen=True)
class ExecutionOptions:
    """Where the peers run."""

    peers: int = 2
    """Peers that train together; one of them is kept."""
    executor: ExecutorName = "ray"
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
    """Seconds to wait for a peer that was lost; then the others go on without it, until it is
    back."""
    min_peers: Annotated[int | None, unless_given("2, or all if there are fewer")] = None
    """With fewer peers than this the run stops, to be resumed."""
    peer_timeout: float = 1800.0
    """Seconds without any progress after which a peer counts as hung: it is ended, and comes
    back."""
    threads_per_peer: Annotated[int | None, unless_given("cores divided by peers")] = None
    """CPU threads of each peer."""
    placement: Placement = "pack"
    """How peers are laid out in a cluster. pack: on few nodes; spread: on as many nodes as can be;
    strict-spread: on a node each, or not at all."""
    wait_for_resources: float = 0.0
    """Minutes to wait for nodes that join the cluster, or for others that use it, at most. Peers
    then ask for a core a thread; at 0 they share the cores that there are."""

    def __post_init__(self) -> None:
        if self.peers < 1:
            raise PeercollabError(f"--peers is {self.peers}: give 1 or more")
        if not (math.isfinite(self.gpus_per_peer) and self.gpus_per_peer > 0):
            raise PeercollabError(
                f"--gpus-per-peer is {self.gpus_per_peer}: give a number above 0 "
                "(--device cpu uses no GPU)"
            )
        if self.gpus_per_peer < LEAST_SHARE or self.gpus_per_peer > max(1, int(self.gpus_per_peer)):
            raise PeercollabError(
                f"--gpus-per-peer is {self.gpus_per_peer}: give a whole number, or a fraction from "
                f"{LEAST_SHARE} to 1"
            )
        if self.threads_per_peer is not None and self.threads_per_peer < 1:
            raise PeercollabError(f"--threads-per-peer is {self.threads_per_peer}: give 1 or more")
        if self.checkpoint_every < 1:
            raise PeercollabError(f"--checkpoint-every is {self.checkpoint_every}: give 1 or more")
        if not self.rejoin_within >= 0:
            raise PeercollabError(f"--rejoin-within is {self.rejoin_within}: give 0 or more")
        if self.min_peers is not None and not 1 <= self.min_peers <= self.peers:
            raise PeercollabError(
                f"--min-peers is {self.min_peers}: give 1 up to --peers, which is {self.peers}"
            )
        if not (math.isfinite(self.peer_timeout) and self.peer_timeout > 0):
            raise PeercollabError(f"--peer-timeout is {self.peer_timeout}: give seconds, above 0")
        if not (math.isfinite(self.wait_for_resources) and self.wait_for_resources >= 0):
            raise PeercollabError(
                f"--wait-for-resources is {self.wait_for_resources}: give minutes, 0 or more"
            )
        for name, is_given in {
            "--address": self.address is not None,
            "--placement": self.placement != "pack",
            "--wait-for-resources": self.wait_for_resources > 0,
        }.items():
            if is_given and self.executor == "local":
                raise PeercollabError(f"{name} has no effect with --executor local: leave one out")

    @property
    def least_peers(self) -> int:
        """With how many peers the run goes on at least."""
        return min(2, self.peers) if self.min_peers is None else self.min_peers

    def threads(self, cores: int) -> int:
        """Threads of each peer when all peers share so many cores."""
        return self.threads_per_peer or max(1, cores // self.peers)
