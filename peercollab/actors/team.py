"""Peers of `peercollab.collaborate`, wherever they live."""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch

from peercollab.actors.network_peer import NetworkPeer, NetworkSetup
from peercollab.errors import PeercollabError


class Team(Protocol):
    """Peers that are asked by their place, from 0; a context that ends them."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def ask(self, peer: int, method: str, *arguments: Any) -> Any:
        """Have a peer do something; what it answers, or the promise of that.

        A peer does things in the order of asking. An answer may be an argument of another ask.
        """

    def collect(self, answers: Sequence[Any], awaited: str) -> list[Any]:
        """The answers themselves; `awaited` says in a message what they are of."""


class LocalTeam:
    """Peers one after another in this process."""

    def __init__(self, peers: int, setup: NetworkSetup) -> None:
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(setup.threads)
        try:
            self._peers = [NetworkPeer(number, setup) for number in range(1, peers + 1)]
            if len({id(peer.network) for peer in self._peers}) < peers:
                raise PeercollabError(
                    "collaborate: make gave the same network to two peers: let it make a new one "
                    "each time"
                )
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads_before)

    def ask(self, peer: int, method: str, *arguments: Any) -> Any:
        return getattr(self._peers[peer], method)(*arguments)

    def collect(self, answers: Sequence[Any], awaited: str) -> list[Any]:
        return list(answers)
