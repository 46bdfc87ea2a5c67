"""The round, in order: train, keep the best, measure, plan, transplant, record.

A plain class that works on any `PeerGroup`. Of the weights it sees a few numbers a layer.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from peercollab.actors.group import PeerGroup
from peercollab.actors.peer import PeerReport
from peercollab.errors import PeercollabError
from peercollab.training.metrics import SELECTION_METRIC
from peercollab.transplant.layers import LayerMap, choose_layers
from peercollab.transplant.options import TransplantOptions
from peercollab.transplant.plan import LayerStatistics, TransplantPlan, make_plan


@dataclass(frozen=True)
class Best:
    """The state that is kept so far: whose, from which round, and its validation NDCG@10."""

    peer: int
    round: int
    value: float


@dataclass(frozen=True)
class RoundRecord:
    """All that happened in a round.

    Attributes
    ----------
    bytes_moved
        Bytes of weights that went from donors to receivers.
    coordinator_bytes
        Bytes of messages that the coordinator sent and received, of all kinds.
    seconds
        Wall-clock time of each phase; "train" includes the ranking of validation.
    """

    round: int
    peers: list[PeerReport]
    statistics: list[LayerStatistics]
    plan: TransplantPlan
    bytes_moved: int
    coordinator_bytes: int
    seconds: dict[str, float]
    best: Best | None

    def as_json(self) -> dict[str, Any]:
        """The record as it stands in ``rounds.jsonl``."""
        best = self.best
        return {
            "round": self.round,
            "peers": [asdict(report) for report in self.peers],
            "statistics": {
                str(peer): dict(values) for peer, values in enumerate(self.statistics, start=1)
            },
            "transfers": [
                {
                    "receiver": transfer.receiver + 1,
                    "donor": transfer.donor + 1,
                    "keep": dict(transfer.keep),
                }
                for transfer in self.plan.transfers
            ],
            "bytes_moved": self.bytes_moved,
            "coordinator_bytes": self.coordinator_bytes,
            "seconds": self.seconds,
            "best": best and {"peer": best.peer, "round": best.round, SELECTION_METRIC: best.value},
        }


class Coordinator:
    """Leads the peers through rounds.

    Parameters
    ----------
    peers
        The peers, here or elsewhere.
    options
        The rule, and which layers take part.

    Raises
    ------
    PeercollabError
        The peers' models do not have the same layers, or none takes part.
    """

    def __init__(self, peers: PeerGroup, options: TransplantOptions) -> None:
        self._peers = peers
        self._rule = options.build_rule()
        maps = peers.layers()
        if any(other != maps[0] for other in maps):
            raise PeercollabError("the peers' models differ in their layers: nothing can be given")
        self._layers = maps[0]
        self._taking_part = choose_layers(self._layers, options.layers or "all")
        self._best: Best | None = None

    def layers(self) -> LayerMap:
        """The layers that every peer's model has."""
        return self._layers

    def run_round(self, round: int) -> RoundRecord:
        """One round, from 1: every peer trains, and then all exchange at one time."""
        seconds: dict[str, float] = {}
        handled_before = self._peers.bytes_handled
        with _timed("train", seconds):
            reports = self._peers.train(round)
        with _timed("save", seconds):
            self._keep_best(round, reports)
        with _timed("statistics", seconds):
            statistics = self._peers.statistics(list(self._taking_part))
        with _timed("plan", seconds):
            plan = make_plan(round, self._rule, self._taking_part, statistics)
        with _timed("transplant", seconds):
            grafts = self._peers.transplant(plan)
        return RoundRecord(
            round=round,
            peers=reports,
            statistics=statistics,
            plan=plan,
            bytes_moved=sum(graft.bytes for graft in grafts),
            coordinator_bytes=self._peers.bytes_handled - handled_before,
            seconds=seconds,
            best=self._best,
        )

    def _keep_best(self, round: int, reports: list[PeerReport]) -> None:
        """Save the state that was ranked, before the exchange, if none was better."""
        for peer, report in enumerate(reports):
            if report.validation is None:
                continue
            value = report.validation[SELECTION_METRIC]
            if self._best is None or value > self._best.value:
                self._best = Best(report.peer, round, value)
                chosen = peer
        if self._best is not None and self._best.round == round:
            self._peers.save_best(chosen)


@contextmanager
def _timed(phase: str, seconds: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - started
