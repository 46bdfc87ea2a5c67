"""The round, in order: train, rank, keep the best, measure, plan, transplant, settle, record.

A plain class that works on any `PeerGroup`. Of the weights it sees a few numbers a layer.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from peercollab.actors.group import PeerGroup
from peercollab.actors.messages import Best, Graft, PeerReport, Soup
from peercollab.errors import DivergedError, PeercollabError
from peercollab.training.metrics import SELECTION_METRIC
from peercollab.training.options import TrainingOptions
from peercollab.training.schedule import scheduled_learning_rate
from peercollab.training.streams import SHARED_STREAM, stream_seed
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.layers import LayerMap, choose_layers
from peercollab.transplant.options import Transplant
from peercollab.transplant.plan import LayerStatistics, TransplantPlan
from peercollab.transplant.rules.rule import make_plan


@dataclass
class RoundRecord:
    """All that happened in a round.

    Attributes
    ----------
    statistics
        Of each peer, counted from 0, the criterion's value of every layer at the last exchange.
    exchanges
        How many there were.
    shares
        For receiver and donor, counted from 0, the donor's share in each layer's new weights,
        summed over the exchanges.
    bytes_moved
        Bytes of weights that went from donors to receivers.
    troubles
        Why peers sat the round out, by peer.
    coordinator_bytes
        Bytes of messages that the coordinator sent and received, of all kinds.
    seconds
        Wall-clock time of each phase, summed over the round.
    """

    round: int
    peers: list[PeerReport] = field(default_factory=list)
    statistics: dict[int, LayerStatistics] = field(default_factory=dict)
    exchanges: int = 0
    shares: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)
    bytes_moved: int = 0
    troubles: dict[int, str] = field(default_factory=dict)
    coordinator_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    best: Best | None = None

    def add(self, plan: TransplantPlan, grafts: Sequence[Graft]) -> None:
        """Take in an exchange: what was planned, and what came of it at each receiver."""
        self.exchanges += 1
        self.bytes_moved += sum(graft.bytes for graft in grafts)
        for receiver, graft in zip(plan.receivers, grafts, strict=True):
            for transfer in plan.of(receiver).transfers:
                given = self.shares.setdefault((receiver, transfer.donor), {})
                for layer, share in transfer.shares.items():
                    if layer in graft.measured:
                        share *= graft.measured[layer] / plan.received(receiver, layer)
                    given[layer] = given.get(layer, 0.0) + share

    def as_json(self) -> dict[str, Any]:
        """The record as it stands in ``rounds.jsonl``, where peers are counted from 1."""
        return {
            "round": self.round,
            "peers": [
                {name: value for name, value in asdict(report).items() if name != "trouble"}
                for report in self.peers
            ],
            "failures": [
                {"peer": peer + 1, "reason": reason} for peer, reason in self.troubles.items()
            ],
            "statistics": {str(peer + 1): dict(values) for peer, values in self.statistics.items()},
            "exchanges": self.exchanges,
            "transfers": [
                {
                    "receiver": receiver + 1,
                    "donor": donor + 1,
                    "shares": {layer: total / self.exchanges for layer, total in given.items()},
                }
                for (receiver, donor), given in sorted(self.shares.items())
            ],
            "bytes_moved": self.bytes_moved,
            "coordinator_bytes": self.coordinator_bytes,
            "seconds": self.seconds,
            "best": self.best
            and {
                "peer": self.best.peer,
                "round": self.best.round,
                SELECTION_METRIC: self.best.value,
            },
        }


class Coordinator:
    """Leads the peers through rounds.

    Parameters
    ----------
    peers
        The peers, here or elsewhere.
    transplant
        The rule, which layers take part, and when.
    training
        How the peers are trained.

    Raises
    ------
    PeercollabError
        The peers' models do not have the same layers, none takes part, or no exchange would
        ever happen.
    """

    def __init__(self, peers: PeerGroup, transplant: Transplant, training: TrainingOptions) -> None:
        self._peers = peers
        self._transplant = transplant
        self._training = training
        maps = peers.layers()
        self._n_peers = len(maps)
        self._layers = _common(maps)
        self._taking_part = choose_layers(self._layers, transplant.layers)
        self._steps = peers.steps()
        self._timetable = transplant.timetable(self._steps, training.epochs)
        if transplant.rule.exchanges:
            self._timetable.require_exchange()
        self._best: Best | None = None

    def layers(self) -> LayerMap:
        """The layers that every peer's model has."""
        return self._layers

    def run_round(self, round: int) -> RoundRecord:
        """One round, from 1: peers train an epoch, and exchange at its end or on the way.

        Raises
        ------
        DivergedError
            No peer is left whose weights are finite.
        """
        record = RoundRecord(round)
        handled_before = self._peers.bytes_handled
        due = self._timetable.due(round) if self._transplant.rule.exchanges else []
        for step in sorted({*due, self._steps}):
            self._train(record, step)
            if step == self._steps and self._transplant.rule.ranked == "before":
                self._rank(record)
            if step in due:
                self._exchange(record, step)
        if self._transplant.rule.ranked == "after":
            self._rank(record)
        with _timed("settle", record.seconds):
            self._peers.settle()
        record.coordinator_bytes = self._peers.bytes_handled - handled_before
        record.best = self._best
        return record

    def finish(self) -> Soup | None:
        """Make the soup that is kept, if one is wanted and any peer was ever ranked."""
        if self._transplant.select == "best" or self._best is None:
            return None
        return self._peers.soup(self._transplant.select)

    def _train(self, record: RoundRecord, step: int) -> None:
        with _timed("train", record.seconds):
            self._note(record, self._peers.train(record.round, step))

    def _rank(self, record: RoundRecord) -> None:
        """Rank, and save the ranked state if none was better."""
        with _timed("rank", record.seconds):
            record.peers = self._peers.rank(record.round)
        self._note(record, [report.trouble for report in record.peers])
        with _timed("save", record.seconds):
            chosen = None
            for peer, report in enumerate(record.peers):
                if report.validation is None:
                    continue
                value = report.validation[SELECTION_METRIC]
                if self._best is None or value > self._best.value:
                    self._best, chosen = Best(report.peer, record.round, value), peer
            if chosen is not None:
                self._peers.save_best(chosen)

    def _note(self, record: RoundRecord, troubles: Sequence[str | None]) -> None:
        """Note who sits the round out, and end the run if all do."""
        record.troubles = {peer: why for peer, why in enumerate(troubles) if why is not None}
        if len(record.troubles) == len(troubles):
            raise DivergedError(troubles[0])

    def _exchange(self, record: RoundRecord, step: int) -> None:
        """Measure, plan and transplant, among the peers that are well."""
        rule = self._transplant.rule
        peers = [peer for peer in range(self._n_peers) if peer not in record.troubles]
        with _timed("statistics", record.seconds):
            measured: Sequence[LayerStatistics] = [{} for _ in peers]
            if rule.measure is not None:
                measured = self._peers.statistics(peers, list(self._taking_part))
            record.statistics = dict(zip(peers, measured, strict=True))
        with _timed("plan", record.seconds):
            plan = make_plan(
                self._occasion(record.round, step),
                rule,
                self._taking_part,
                record.statistics,
                absent=list(record.troubles),
            )
        with _timed("transplant", record.seconds):
            grafts = self._peers.transplant(plan)
        record.add(plan, grafts)

    def _occasion(self, round: int, step: int) -> Exchange:
        training = self._training
        done = (round - 1) * self._steps + step
        total = training.epochs * self._steps
        return Exchange(
            round,
            step,
            draw=stream_seed(training.seed, SHARED_STREAM, "exchange", done),
            pull=scheduled_learning_rate(1.0, training.schedule, done - 1, total),
        )


def _common(maps: Sequence[LayerMap]) -> LayerMap:
    """The layers that all peers have."""
    for number, other in enumerate(maps[1:], start=2):
        if other != maps[0]:
            names = [n for n in {**maps[0], **other} if maps[0].get(n) != other.get(n)]
            raise PeercollabError(
                f"the models of peer 1 and peer {number} differ in their layers, such as "
                f"{names[0] if names else 'their order'}: nothing can be given"
            )
    return maps[0]


@contextmanager
def _timed(phase: str, seconds: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - started
