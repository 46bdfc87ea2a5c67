"""What is kept of a round: one line of ``rounds.jsonl``, from which any report can be drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from peercollab.actors.messages import Best, PeerReport
from peercollab.training.metrics import SELECTION_METRIC
from peercollab.transplant.grafting import Graft
from peercollab.transplant.layers import LayerMap
from peercollab.transplant.plan import LayerStatistics, TransplantPlan


@dataclass(frozen=True)
class Trouble:
    """Why a peer sits the rest of a round out, and by which step of the epoch it was noticed."""

    step: int
    reason: str


@dataclass
class RoundRecord:
    """All that happened in a round; peers are counted from 0 here, and from 1 in its JSON.

    Attributes
    ----------
    layers
        All layers of the model.
    measured
        Of each peer, what was measured of its layers at each exchange.
    exchanges
        In how many anybody mixed.
    mixed
        In how many each receiver mixed.
    shares
        For receiver and donor, the donor's share in each layer's new weights, summed over the
        exchanges. Of a rule that exchanges single entries it is the share that is expected; of
        diloco, whose new weights are no mixture, each peer's part in the mean movement.
    similarity
        For receiver and donor, the cosine of their weights in each layer before the round's first
        exchange, of layers that were given whole.
    bytes_moved
        Bytes of weights that went from donors to receivers.
    troubles
        Which peers sit the round out.
    coordinator_bytes
        Bytes of messages that the coordinator sent and received, of all kinds.
    seconds
        Wall-clock time of each phase in seconds, summed over the round.
    """

    round: int
    layers: LayerMap = field(default_factory=dict)
    peers: list[PeerReport] = field(default_factory=list)
    measured: dict[int, list[LayerStatistics]] = field(default_factory=dict)
    exchanges: int = 0
    mixed: dict[int, int] = field(default_factory=dict)
    shares: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)
    similarity: dict[tuple[int, int], Mapping[str, float]] = field(default_factory=dict)
    bytes_moved: int = 0
    troubles: dict[int, Trouble] = field(default_factory=dict)
    coordinator_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    best: Best | None = None

    def add(
        self,
        statistics: Mapping[int, LayerStatistics],
        plan: TransplantPlan,
        grafts: Sequence[Graft],
    ) -> None:
        """Take in an exchange: what was measured and planned, and what came of it."""
        for peer, values in statistics.items():
            self.measured.setdefault(peer, []).append(values)
        self.exchanges += bool(plan.receivers)
        self.bytes_moved += sum(graft.bytes for graft in grafts)
        for receiver, graft in zip(plan.receivers, grafts, strict=True):
            self.mixed[receiver] = self.mixed.get(receiver, 0) + 1
            part = plan.of(receiver)
            received = part.received()
            for donor, cosines in graft.similarity.items():
                self.similarity.setdefault((receiver, donor), cosines)
            for transfer in part.transfers:
                given = self.shares.setdefault((receiver, transfer.donor), {})
                for layer, share in transfer.shares.items():
                    if layer in graft.measured:
                        share *= graft.measured[layer] / received[layer]
                    given[layer] = given.get(layer, 0.0) + share

    def as_json(self) -> dict[str, Any]:
        """The record as it stands in ``rounds.jsonl``; shares and statistics are means."""
        return {
            "round": self.round,
            "layers": {name: layer.scope for name, layer in self.layers.items()},
            "peers": [
                {name: value for name, value in asdict(report).items() if name != "trouble"}
                for report in self.peers
            ],
            "failures": [
                {"peer": peer + 1, **asdict(trouble)} for peer, trouble in self.troubles.items()
            ],
            "statistics": {
                str(peer + 1): {layer: _mean(values, layer) for layer in values[0]}
                for peer, values in self.measured.items()
                if values[0]
            },
            "exchanges": self.exchanges,
            "receivers": {str(peer + 1): times for peer, times in sorted(self.mixed.items())},
            "transfers": [
                {
                    "receiver": receiver + 1,
                    "donor": donor + 1,
                    "shares": {name: total / self.mixed[receiver] for name, total in given.items()},
                    "similarity": dict(self.similarity.get((receiver, donor), {})),
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


def _mean(values: Sequence[LayerStatistics], layer: str) -> float:
    return sum(of[layer] for of in values) / len(values)
