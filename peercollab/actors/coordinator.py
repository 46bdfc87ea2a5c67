"""The round, in order: train, rank, keep the best, measure, plan, transplant, settle, record.

A plain class that works on any `PeerGroup`. Of the weights it sees a few numbers a layer.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from peercollab.actors.group import PeerGroup
from peercollab.actors.messages import Best, PeerReport, Soup
from peercollab.actors.record import RoundRecord, Trouble
from peercollab.errors import DivergedError, PeercollabError
from peercollab.results.checkpoint import Digests
from peercollab.training.metrics import SELECTION_METRIC
from peercollab.training.options import TrainingOptions
from peercollab.training.schedule import scheduled_learning_rate
from peercollab.training.streams import SHARED_STREAM, stream_seed
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.layers import Layer, LayerMap, choose_layers
from peercollab.transplant.options import Transplant
from peercollab.transplant.plan import LayerStatistics
from peercollab.transplant.rules.rule import make_plan

# Why a peer that is away sits rounds out.
AWAY = "it was lost, and is not back yet"


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
        self._best: Best | None = None
        if peers.present:
            self._meet()

    def run_round(self, round: int) -> RoundRecord:
        """One round, from 1: peers train an epoch, and exchange at its end or on the way.

        Raises
        ------
        DivergedError
            No peer is left whose weights are finite.
        """
        record = RoundRecord(round, self._layers)
        for peer in range(self._peers.size):
            if peer not in self._peers.present:
                record.troubles[peer] = Trouble(0, AWAY)
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

    def checkpoint(self, folder: Path) -> Digests:
        """Have the peers write into a folder what they need to go on; the digests of all files."""
        return self._peers.checkpoint(folder)

    def restore(self, folder: Path, best: Best | None, present: Sequence[int]) -> None:
        """Go back to what `checkpoint` wrote into a folder.

        Parameters
        ----------
        folder
            Where it lies.
        best
            The best so far, at that time.
        present
            The peers that are there from now on, ascending. One that was away goes on from the
            end of its own last round, under a rule that remembers from where the others are.
        """
        self._peers.present = present
        self._meet()
        rounds = self._peers.restore(folder)
        latest = max(rounds.values())
        late = [peer for peer, round in rounds.items() if round < latest]
        if late and self._transplant.rule.remembers:
            leader = next(peer for peer, round in rounds.items() if round == latest)
            self._peers.follow(late, folder, leader)
        self._best = best

    def finish(self) -> Soup | None:
        """Make the soup that is kept, if one is wanted and any peer was ever ranked."""
        if self._transplant.select == "best" or self._best is None:
            return None
        return self._peers.soup(self._transplant.select)

    def _meet(self) -> None:
        """Learn from the peers that are there what their models are."""
        self._layers = _common(self._peers.layers())
        self._taking_part = choose_layers(self._layers, self._transplant.layers)
        self._steps = self._peers.steps()
        self._timetable = self._transplant.timetable(self._steps, self._training.epochs)
        rule = self._transplant.rule
        if rule.exchanges:
            self._timetable.require_exchange(before_the_end=rule.ranked == "before")

    def _train(self, record: RoundRecord, step: int) -> None:
        with _timed("train", record.seconds):
            self._note(record, step, self._peers.train(record.round, step))

    def _rank(self, record: RoundRecord) -> None:
        """Rank, and save the ranked state if none was better."""
        with _timed("rank", record.seconds):
            reports = self._peers.rank(record.round)
        self._note(record, self._steps, {peer: of.trouble for peer, of in reports.items()})
        record.peers = [
            reports.get(peer) or PeerReport.of_absent(peer + 1, AWAY)
            for peer in range(self._peers.size)
        ]
        with _timed("save", record.seconds):
            chosen = None
            for peer, report in sorted(reports.items()):
                if report.validation is None:
                    continue
                value = report.validation[SELECTION_METRIC]
                if self._best is None or value > self._best.value:
                    self._best, chosen = Best(report.peer, record.round, value), peer
            if chosen is not None:
                self._peers.save_best(chosen)

    def _note(self, record: RoundRecord, step: int, troubles: Mapping[int, str | None]) -> None:
        """Note who sits the round out from here on, and end the run if all do."""
        for peer, reason in troubles.items():
            if reason is not None:
                record.troubles.setdefault(peer, Trouble(step, reason))
        if all(troubles.values()):
            raise DivergedError(next(iter(troubles.values())))

    def _exchange(self, record: RoundRecord, step: int) -> None:
        """Measure, plan and transplant, among the peers that are well."""
        rule = self._transplant.rule
        there = self._peers.present
        peers = [peer for peer in there if peer not in record.troubles]
        statistics: dict[int, LayerStatistics] = {peer: {} for peer in peers}
        with _timed("statistics", record.seconds):
            if rule.measure is not None:
                measured = self._peers.statistics(peers, list(self._taking_part))
                statistics = dict(zip(peers, measured, strict=True))
        with _timed("plan", record.seconds):
            plan = make_plan(
                self._occasion(record.round, step),
                rule,
                self._taking_part,
                statistics,
                absent=[peer for peer in there if peer in record.troubles],
            )
        with _timed("transplant", record.seconds):
            grafts = self._peers.transplant(plan)
        record.add(statistics, plan, grafts)

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


def _common(maps: Mapping[int, LayerMap]) -> LayerMap:
    """The layers that all peers have, in the same order."""
    (first, layers), *others = maps.items()
    for peer, other in others:
        # Pairs tell the order, too: rules that draw entries count through all tensors.
        for own, its in zip_longest(map(_shape, layers.values()), map(_shape, other.values())):
            if own != its:
                raise PeercollabError(
                    f"the models of peer {first + 1} and peer {peer + 1} differ in their layers: "
                    f"where one has {_told(own)}, the other has {_told(its)}; nothing can be given"
                )
    return layers


def _shape(layer: Layer) -> tuple[str, str, tuple[tuple[str, tuple[int, ...]], ...]]:
    return layer.name, layer.scope, tuple(layer.tensors.items())


def _told(shape: tuple[str, str, tuple[tuple[str, tuple[int, ...]], ...]] | None) -> str:
    if shape is None:
        return "no further layer"
    name, scope, tensors = shape
    return f"{name} ({scope}: {', '.join(f'{tensor} {size}' for tensor, size in tensors)})"


@contextmanager
def _timed(phase: str, seconds: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - started
