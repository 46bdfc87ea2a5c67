"""Networks of any kind as peers: your own training, our exchange of weights.

What filter grafting (Meng et al., CVPR 2020, arXiv 2001.05868) does with image classifiers is
``collaborate(make, train, score, rule="layer-wise", weighting="arctan")``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_args

import torch
from torch import nn

from peercollab.actors.network_peer import Make, NetworkSetup, Score, Train
from peercollab.actors.options import ExecutionOptions, ExecutorName
from peercollab.actors.team import LocalTeam, Team
from peercollab.command_line import did_you_mean
from peercollab.errors import PeercollabError
from peercollab.machine import usable_cores
from peercollab.training.streams import SHARED_STREAM, stream_seed
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.layers import LayerMap, choose_layers
from peercollab.transplant.options import Transplant, TransplantOptions
from peercollab.transplant.plan import TransplantPlan
from peercollab.transplant.rules.rule import make_plan

# A round of the user's own training is one step here: exchanges come at its end.
STEPS = 1

# Options of the exchange that mean nothing where training is the user's.
NOT_HERE = {"exchange_every", "moments", "align", "select"}

Scores = dict[int, float | None]
Shares = dict[int, dict[str, float]]


@dataclass(frozen=True)
class Collaboration:
    """What networks that trained as peers came to.

    Attributes
    ----------
    network
        The best state of any peer, in evaluation mode, on the CPU.
    best
        Its peer (from 1), round (from 1) and score.
    networks
        All peers as the last round left them, likewise.
    scores
        For each round the score of every peer by its number; None of a peer that sat it out.
    shares
        For each round what each receiver (from 1) took from others, of every layer that
        travelled, as a share of its new weights.
    """

    network: nn.Module
    best: tuple[int, int, float]
    networks: list[nn.Module]
    scores: list[Scores] = field(default_factory=list)
    shares: list[Shares] = field(default_factory=list)


def collaborate(
    make: Make,
    train: Train,
    score: Score,
    *,
    peers: int = 2,
    rounds: int = 10,
    seed: int = 10,
    executor: ExecutorName = "local",
    address: str | None = None,
    gpus_per_peer: float = 1.0,
    threads_per_peer: int | None = None,
    **options: Any,
) -> Collaboration:
    """Train networks as peers that give each other weights after every round.

    Each trains a round as your function says; then all exchange at one time. A peer whose weights
    become NaN, infinite, or 10,000 times as large within a round sits the exchange out and goes
    back to its state before.

    Parameters
    ----------
    make
        A network for a peer's number, from 1; all have the same layers. Torch's random numbers are
        the peer's own while it is made, and while it is trained.
    train
        One round of training: ``train(network, peer, round)``, numbers from 1. What it keeps from
        round to round, such as an optimizer, it keeps itself.
    score
        How good a network is, on data that nobody trains on: higher is better. The network is in
        evaluation mode.
    peers, rounds
        How many, 1 or more.
    seed
        Where torch's random numbers of all peers come from.
    executor, address, gpus_per_peer, threads_per_peer
        ``"local"`` trains one after another in this process; ``"ray"`` makes every peer an actor,
        to which your functions travel, as in `peercollab train`. Peers choose their device in
        `make`.
    **options
        Of the exchange, as on the command line: ``rule="layer-wise"``, ``criterion="l1-norm"``,
        ``layers="middle"``, ``donors="best"``, ``exchange_from=0.2``, ... Exchanges happen at the
        ends of rounds, and the optimizer is yours, so that ``exchange_every``, ``moments``,
        ``align`` and ``select`` are not among them.

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
    if rounds < 1:
        raise PeercollabError(f"collaborate: rounds is {rounds}: give 1 or more")
    if seed < 0:
        raise PeercollabError(f"collaborate: seed is {seed}: give 0 or more")
    if executor not in get_args(ExecutorName):
        raise PeercollabError(
            f"collaborate: executor is {executor!r}: take {' or '.join(get_args(ExecutorName))}"
        )
    execution = ExecutionOptions(
        peers=peers,
        executor=executor,
        address=address,
        gpus_per_peer=gpus_per_peer,
        threads_per_peer=threads_per_peer,
    )
    threads = execution.threads(usable_cores())
    setup = NetworkSetup(make, train, score, seed, transplant, threads)
    with _team(execution, setup) as team:
        return _Rounds(team, peers, rounds, setup).run()


def _team(execution: ExecutionOptions, setup: NetworkSetup) -> Team:
    """Where the peers live. Ray is imported only if it is wanted."""
    if execution.executor == "local":
        return LocalTeam(execution.peers, setup)
    from peercollab.actors.ray_team import RayTeam

    return RayTeam(execution, setup)


class _Rounds:
    """The rounds of a collaboration: train, score, plan, transplant, settle."""

    def __init__(self, team: Team, peers: int, rounds: int, setup: NetworkSetup) -> None:
        self._team = team
        self._everyone = range(peers)
        self._rounds = rounds
        self._setup = setup
        self._rule = setup.transplant.rule
        self._timetable = setup.transplant.timetable(STEPS, rounds)
        self._layers = choose_layers(self._common_layers(), setup.transplant.layers)
        self._best: tuple[int, int, float] | None = None
        self._kept: Mapping[str, Any] = {}
        self._scores: list[Scores] = []
        self._shares: list[Shares] = []

    def run(self) -> Collaboration:
        for round in range(1, self._rounds + 1):
            is_well = self._all("train", self._everyone, round)
            well = [peer for peer in self._everyone if is_well[peer]]
            if not well:
                raise PeercollabError(
                    f"round {round}: the weights of all peers became NaN, infinite or huge: train "
                    "with a lower learning rate"
                )
            if self._rule.ranked == "before":
                self._rank(round, well)
            self._shares.append(self._exchange(round, well))
            if self._rule.ranked == "after":
                self._rank(round, well)
            self._all("settle", self._everyone)
        if self._best is None:
            raise PeercollabError("collaborate: no peer ever had a score that is a finite number")
        networks = [self._network(state) for state in self._all("weights", self._everyone)]
        return Collaboration(
            self._network(self._kept), self._best, networks, self._scores, self._shares
        )

    def _common_layers(self) -> LayerMap:
        first, *others = self._all("layers", self._everyone)
        for number, layers in enumerate(others, start=2):
            if layers != first:
                raise PeercollabError(
                    f"collaborate: the networks of peer 1 and peer {number} differ in their layers"
                )
        found: LayerMap = first
        return found

    def _rank(self, round: int, well: Sequence[int]) -> None:
        """Score those that are well, and keep the best state of all so far."""
        values = dict(zip(well, self._all("score", well), strict=True))
        self._scores.append({peer + 1: values.get(peer) for peer in self._everyone})
        known = {peer: value for peer, value in values.items() if value is not None}
        if not known:
            return
        best = max(known, key=lambda peer: known[peer])
        if self._best is None or known[best] > self._best[2]:
            self._best = (best + 1, round, known[best])
            (self._kept,) = self._all("weights", [best])

    def _exchange(self, round: int, well: Sequence[int]) -> Shares:
        """Measure, plan and transplant; what each receiver took."""
        if not (self._rule.exchanges and self._timetable.due(round)):
            return {}
        names = list(self._layers)
        exchange = Exchange(
            round, STEPS, stream_seed(self._setup.seed, SHARED_STREAM, "exchange", round)
        )
        plan = make_plan(
            exchange,
            self._rule,
            self._layers,
            dict(zip(well, self._all("statistics", well, names), strict=True)),
            absent=[peer for peer in self._everyone if peer not in well],
        )
        self._transplant(plan)
        return {receiver + 1: plan.of(receiver).received() for receiver in plan.receivers}

    def _transplant(self, plan: TransplantPlan) -> None:
        # All are asked to give before anybody is asked to take.
        given = {
            request: self._team.ask(request.donor, "export", request) for request in plan.requests()
        }
        taken = []
        for receiver in plan.receivers:
            own = plan.of(receiver)
            parcels = [given[plan.request(transfer)] for transfer in own.transfers]
            taken.append(self._team.ask(receiver, "graft", own, *parcels))
        self._team.collect(taken, "the peers' transplant")

    def _all(self, method: str, peers: Sequence[int], *arguments: Any) -> list[Any]:
        answers = [self._team.ask(peer, method, *arguments) for peer in peers]
        return self._team.collect(answers, f"the peers' {method}")

    def _network(self, state: Mapping[str, Any]) -> nn.Module:
        with torch.random.fork_rng():
            network = self._setup.make(1)
        network.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in state.items()})
        return network.cpu().eval()


def _transplant(options: Mapping[str, Any]) -> Transplant:
    known = [field.name for field in fields(TransplantOptions) if field.name not in NOT_HERE]
    for name in options:
        if name not in known:
            raise PeercollabError(
                f"collaborate: {name} is no option here: take one of {', '.join(known)}"
                f"{did_you_mean(name, known)}"
            )
    transplant = TransplantOptions(**options).build()
    if (criterion := transplant.rule.measure) is not None and criterion.of == "gradient":
        raise PeercollabError(
            "collaborate: criterion importance needs the gradients of training that is ours: take "
            "another"
        )
    return transplant
