"""The round, in order: train, rank, keep the best, measure, plan, transplant, settle, record.

A plain class that works on any `PeerGroup`. Of the weights it sees a few numbers a layer.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from peercollab.actors.group import PeerGroup
from peercollab.actors.messages import Best, Soup
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
            self._timetable.require_exchange(before_the_end=transplant.rule.ranked == "before")
        self._best: Best | None = None

    def run_round(self, round: int) -> RoundRecord:
        """One round, from 1: peers train an epoch, and exchange at its end or on the way.

        Raises
        ------
        DivergedError
            No peer is left whose weights are finite.
        """
        record = RoundRecord(round, self._layers)
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

    def restore(self, folder: Path, best: Best | None) -> None:
        """Go back to what `checkpoint` wrote into a folder, when `best` was the best so far."""
        self._peers.restore(folder)
        self._best = best

    def finish(self) -> Soup | None:
        """Make the soup that is kept, if one is wanted and any peer was ever ranked."""
        if self._transplant.select == "best" or self._best is None:
            return None
        return self._peers.soup(self._transplant.select)

    def _train(self, record: RoundRecord, step: int) -> None:
        with _timed("train", record.seconds):
            self._note(record, step, self._peers.train(record.round, step))

    def _rank(self, record: RoundRecord) -> None:
        """Rank, and save the ranked state if none was better."""
        with _timed("rank", record.seconds):
            record.peers = self._peers.rank(record.round)
        self._note(record, self._steps, [report.trouble for report in record.peers])
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

    def _note(self, record: RoundRecord, step: int, troubles: Sequence[str | None]) -> None:
        """Note who sits the round out from here on, and end the run if all do."""
        for peer, reason in enumerate(troubles):
            if reason is not None:
                record.troubles.setdefault(peer, Trouble(step, reason))
        if len(record.troubles) == len(troubles):
            raise DivergedError(troubles[0])

    def _exchange(self, record: RoundRecord, step: int) -> None:
        """Measure, plan and transplant, among the peers that are well."""
        rule = self._transplant.rule
        peers = [peer for peer in range(self._n_peers) if peer not in record.troubles]
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
                absent=list(record.troubles),
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


def _common(maps: Sequence[LayerMap]) -> LayerMap:
    """The layers that all peers have, in the same order."""
    first = list(maps[0].values())
    for number, other in enumerate(maps[1:], start=2):
        # Pairs tell the order, too: rules that draw entries count through all tensors.
        for own, its in zip_longest(map(_shape, first), map(_shape, other.values())):
            if own != its:
                raise PeercollabError(
                    f"the models of peer 1 and peer {number} differ in their layers: where one has "
                    f"{_told(own)}, the other has {_told(its)}; nothing can be given"
                )
    return maps[0]


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
