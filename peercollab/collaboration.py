"""Networks of any kind as peers: your own training, our exchange of weights.

What filter grafting (Meng et al., CVPR 2020, arXiv 2001.05868) does with image classifiers is
``collaborate(make, train, score, rule="layer-wise", weighting="arctan")``.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from peercollab.errors import PeercollabError
from peercollab.training.streams import SHARED_STREAM, stream_seed
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.grafting import Grafting
from peercollab.transplant.layers import choose_layers
from peercollab.transplant.options import Transplant, TransplantOptions
from peercollab.transplant.rules.rule import make_plan

Make = Callable[[int], nn.Module]
Train = Callable[[nn.Module, int, int], None]
Score = Callable[[nn.Module], float]

# A round of the user's own training is one step here: exchanges come at its end.
STEPS = 1


@dataclass(frozen=True)
class Collaboration:
    """What networks that trained as peers came to.

    Attributes
    ----------
    network
        The best state of any peer, ready to be used.
    best
        Its peer (from 1), round (from 1) and score.
    networks
        All peers as the last round left them.
    scores
        A mapping for each round: the score of every peer by its number; None of a peer that sat
        the round out.
    shares
        A mapping for each round: of every layer that travelled, what each receiver (from 1) took
        from others, as a share of its new weights.
    """

    network: nn.Module
    best: tuple[int, int, float]
    networks: list[nn.Module]
    scores: list[dict[int, float | None]] = field(default_factory=list)
    shares: list[dict[int, dict[str, float]]] = field(default_factory=list)


def collaborate(
    make: Make,
    train: Train,
    score: Score,
    *,
    peers: int = 2,
    rounds: int = 10,
    seed: int = 10,
    **options: Any,
) -> Collaboration:
    """Train networks as peers that give each other weights after every round.

    They train one after another in this process, each round as your function says; then all
    exchange at one time. A peer whose weights become NaN or infinite sits the exchange out and
    goes back to its last finite state.

    Parameters
    ----------
    make
        A network for a peer's number, from 1; all have the same layers. Random numbers of torch
        are the peer's own while it is made, and while it is trained.
    train
        One round of training: ``train(network, peer, round)``, numbers from 1.
    score
        How good a network is, on data that nobody trains on: higher is better. Called in
        evaluation mode.
    peers, rounds
        How many, 1 or more.
    seed
        Where torch's random numbers of all peers come from.
    **options
        Of the exchange, as on the command line: ``rule="layer-wise"``, ``criterion="l1-norm"``,
        ``layers="middle"``, ``donors="best"``, ``exchange_from=0.2``, ... Exchanges happen at the
        ends of rounds, so that ``exchange_every`` is not among them; nor are ``moments``, as the
        optimizer is yours, and ``align``.

    Returns
    -------
    Collaboration
        The best state of any peer, and what happened.

    Raises
    ------
    PeercollabError
        An option is unknown or has no effect here, networks differ in their layers, or no peer is
        left whose weights are finite.
    """
    transplant = _transplant(options)
    for name, number in (("peers", peers), ("rounds", rounds)):
        if number < 1:
            raise PeercollabError(f"collaborate: {name} is {number}: give 1 or more")
    team = [_Peer(make, number, seed, transplant) for number in range(1, peers + 1)]
    _require_alike(team)
    layers = choose_layers(team[0].grafting.layers, transplant.layers)
    timetable = transplant.timetable(STEPS, rounds)
    best: tuple[int, int, float] | None = None
    kept: dict[str, Tensor] = {}
    scores: list[dict[int, float | None]] = []
    shares: list[dict[int, dict[str, float]]] = []

    def rank(round: int) -> None:
        nonlocal best, kept
        scores.append({peer.number: peer.scored(score) for peer in team})
        for peer in team:
            value = scores[-1][peer.number]
            if value is not None and (best is None or value > best[2]):
                best, kept = (peer.number, round, value), peer.state()

    for round in range(1, rounds + 1):
        for peer in team:
            peer.train(train, round)
        well = [peer for peer in team if peer.is_well]
        if not well:
            raise PeercollabError(
                f"round {round}: the weights of all peers became NaN or infinite: train with a "
                "lower learning rate"
            )
        if transplant.rule.ranked == "before":
            rank(round)
        taken: dict[int, dict[str, float]] = {}
        if transplant.rule.exchanges and timetable.due(round):
            draw = stream_seed(seed, SHARED_STREAM, "exchange", round)
            exchange = Exchange(round, STEPS, draw)
            plan = make_plan(
                exchange,
                transplant.rule,
                layers,
                {peer.number - 1: peer.grafting.statistics(list(layers)) for peer in well},
                absent=[peer.number - 1 for peer in team if not peer.is_well],
            )
            # All give before anybody takes; what is given is copied, as it lies in the weights.
            given = {
                request: {
                    name: tuple(part.copy() for part in parts)
                    for name, parts in team[request.donor].grafting.export(request).items()
                }
                for request in plan.requests()
            }
            for receiver in plan.receivers:
                own = plan.of(receiver)
                team[receiver].grafting.graft(own, *(given[plan.request(t)] for t in own.transfers))
                taken[receiver + 1] = own.received()
        shares.append(taken)
        if transplant.rule.ranked == "after":
            rank(round)
        for peer in team:
            peer.settle()
    if best is None:
        raise PeercollabError("collaborate: no peer ever had a score that is a finite number")
    network = copy.deepcopy(team[0].network)
    network.load_state_dict(kept)
    return Collaboration(network.eval(), best, [peer.network for peer in team], scores, shares)


class _Peer:
    """A network with its random numbers and its last finite state; the optimizer is the user's."""

    def __init__(self, make: Make, number: int, seed: int, transplant: Transplant) -> None:
        self.number = number
        self._seed = seed
        shared = transplant.rule.shared_start
        first = stream_seed(seed, SHARED_STREAM if shared else number, "initialisation")
        with torch.random.fork_rng():
            torch.manual_seed(first)
            self.network = make(1 if shared else number)
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        self.grafting = Grafting(self.network, transplant, self, device)
        self.is_well = True
        self._finite = self.state()

    def train(self, train: Train, round: int) -> None:
        self.network.train()
        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(self._seed, self.number, "dropout", round))
            train(self.network, self.number, round)
        self.is_well = all(
            bool(value.isfinite().all())
            for value in self.network.state_dict().values()
            if value.is_floating_point()
        )
        if not self.is_well:
            self.network.load_state_dict(self._finite)

    def scored(self, score: Score) -> float | None:
        if not self.is_well:
            return None
        value = float(score(self.network.eval()))
        return value if math.isfinite(value) else None

    def state(self) -> dict[str, Tensor]:
        return {n: v.detach().clone() for n, v in self.network.state_dict().items()}

    def settle(self) -> None:
        self._finite = self.state()

    def moments(self) -> Mapping[str, tuple[Tensor, ...]]:
        return {}

    def forget_moments(self, name: str, changed_T: Tensor) -> None: ...

    def importances(self) -> Mapping[str, Tensor]:
        raise PeercollabError(
            "collaborate: criterion importance needs the gradients of our own training: take "
            "another"
        )


def _transplant(options: Mapping[str, Any]) -> Transplant:
    known = set(TransplantOptions.__dataclass_fields__) - {"exchange_every", "moments", "align"}
    known -= {"select"}
    for name in options:
        if name not in known:
            raise PeercollabError(
                f"collaborate: {name} is no option here: take one of {', '.join(sorted(known))}"
            )
    return TransplantOptions(**options).build()


def _require_alike(team: list[_Peer]) -> None:
    first = team[0].grafting.layers
    for peer in team[1:]:
        if peer.grafting.layers != first:
            raise PeercollabError(
                f"collaborate: the networks of peer 1 and peer {peer.number} differ in their layers"
            )
