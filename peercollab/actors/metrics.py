"""What a run does as metrics of Ray, which Prometheus reads from every node.

Ray puts ``ray_`` before their names. All have the tag ``run``, the run's folder by its name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ray.util.metrics import Counter, Gauge

from peercollab.actors.record import RoundRecord
from peercollab.training.metrics import SELECTION_METRIC

# Their names, what they say, and the tags they have besides the run.
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "peercollab_round": ("Complete rounds.", ()),
    "peercollab_loss": ("Mean loss of the last round, nats a position.", ("peer",)),
    "peercollab_validation_ndcg10": ("Validation NDCG@10 of the last round.", ("peer",)),
    "peercollab_best_ndcg10": ("Validation NDCG@10 of the best state so far.", ()),
    "peercollab_positions_per_second": ("Positions trained a second.", ("peer",)),
    "peercollab_round_seconds": ("Wall-clock time of the last round, seconds.", ("phase",)),
}
COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "peercollab_bytes_moved": ("Bytes of weights, and of the coordinator's messages.", ("what",)),
    "peercollab_sat_out": ("Rounds, or parts of them, that a peer sat out.", ("peer",)),
    "peercollab_losses": ("Peers or coordinators lost, hung or failed.", ()),
}


@dataclass(frozen=True)
class Reading:
    """One value of a metric, with its tags besides the run."""

    name: str
    value: float
    tags: Mapping[str, str]


def readings(record: RoundRecord) -> Iterator[Reading]:
    """What a round's record says, as metrics."""
    yield Reading("peercollab_round", record.round, {})
    for report in record.peers:
        peer = {"peer": str(report.peer)}
        if report.loss is not None:
            yield Reading("peercollab_loss", report.loss, peer)
        if report.validation is not None:
            value = report.validation[SELECTION_METRIC]
            yield Reading("peercollab_validation_ndcg10", value, peer)
        if report.positions and (spent := report.seconds.get("train")):
            yield Reading("peercollab_positions_per_second", report.positions / spent, peer)
    if record.best is not None:
        yield Reading("peercollab_best_ndcg10", record.best.value, {})
    for phase, spent in record.seconds.items():
        yield Reading("peercollab_round_seconds", spent, {"phase": phase})
    yield Reading("peercollab_bytes_moved", record.bytes_moved, {"what": "weights"})
    yield Reading("peercollab_bytes_moved", record.coordinator_bytes, {"what": "messages"})
    for peer_number in record.troubles:
        yield Reading("peercollab_sat_out", 1, {"peer": str(peer_number + 1)})


class RunMetrics:
    """The metrics of one run, told from a process that is connected to Ray.

    Parameters
    ----------
    run
        The run's name.
    """

    def __init__(self, run: str) -> None:
        self._run = {"run": run}
        self._gauges = {
            name: Gauge(name, description=text, tag_keys=("run", *tags))
            for name, (text, tags) in GAUGES.items()
        }
        self._counters = {
            name: Counter(name, description=text, tag_keys=("run", *tags))
            for name, (text, tags) in COUNTERS.items()
        }

    def tell(self, record: RoundRecord) -> None:
        """Tell of a round."""
        for reading in readings(record):
            tags = {**self._run, **reading.tags}
            if reading.name in self._gauges:
                self._gauges[reading.name].set(reading.value, tags)
            elif reading.value > 0:
                self._counters[reading.name].inc(reading.value, tags)

    def tell_loss(self) -> None:
        """Tell of a peer or coordinator that was lost."""
        self._counters["peercollab_losses"].inc(1, self._run)
