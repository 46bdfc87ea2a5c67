"""What the rules have in common that mix whole layers of chosen donors."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from peercollab.errors import PeercollabError
from peercollab.transplant import donors
from peercollab.transplant.criteria import BINS, CRITERIA, Criterion, CriterionName, entropy
from peercollab.transplant.donors import Donors, Sources
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.plan import LayerStatistics, Transfer
from peercollab.transplant.rules.rule import Rule

DONORS_BY_VALUE = ("best", "mean")

# The whole of a small layer has no more entries.
MOST_BINS = 10_000


@dataclass(frozen=True, kw_only=True)
class LayerRule(Rule):
    """Each peer receives layers from donors, chosen the same way for all rules of this kind."""

    aligns = True

    donors: Donors = "ring"
    criterion: CriterionName = "entropy"
    bins: int = BINS

    def __post_init__(self) -> None:
        if not 2 <= self.bins <= MOST_BINS:
            raise PeercollabError(f"--bins is {self.bins}: give 2 to {MOST_BINS:,}")

    @property
    def compares(self) -> bool:
        """Whether how much is kept follows from the criterion."""
        return False

    @property
    def measure(self) -> Criterion | None:
        if not self.compares and self.donors not in DONORS_BY_VALUE:
            return None
        criterion = CRITERIA[self.criterion]
        if self.criterion == "entropy":
            return replace(criterion, measure=partial(entropy, bins=self.bins))
        return criterion

    @property
    def takes_from_all(self) -> bool:
        return self.donors == "mean"

    def idle(self) -> Mapping[str, str]:
        if self.measure is None:
            return dict.fromkeys(("criterion", "bins"), "--donors best or mean")
        return {} if self.criterion == "entropy" else {"bins": "--criterion entropy"}

    def keep(self, own: float, donor: float) -> float:
        """Share of its own weights that a receiver keeps, from both sides' criterion."""
        raise NotImplementedError

    def transfers(
        self,
        exchange: Exchange,
        peers: Sequence[int],
        absent: Sequence[int],
        layers: Sequence[str],
        statistics: Mapping[int, LayerStatistics],
    ) -> tuple[Transfer, ...]:
        # By the places of receiver and donor.
        shares: list[dict[int, dict[str, float]]] = [defaultdict(dict) for _ in peers]
        fixed = self._fixed_sources(len(peers), exchange.draw)
        is_measured = self.measure is not None
        for layer in layers:
            values = [statistics[peer][layer] if is_measured else 0.0 for peer in peers]
            for place, sources in enumerate(fixed or self._sources_of(values)):
                received = 0.0
                for donor, weight in sources.items():
                    received += values[donor] * weight
                given = 1 - self.keep(values[place], received)
                for donor, weight in sources.items():
                    if share := given * weight:
                        shares[place][donor][layer] = share
        return tuple(
            Transfer(receiver, peers[donor], by_donor[donor])
            for receiver, by_donor in zip(peers, shares, strict=True)
            for donor in sorted(by_donor)
        )

    def _fixed_sources(self, n_peers: int, draw: int) -> Sources | None:
        """The donors, where they are the same for every layer."""
        if self.donors == "ring":
            return donors.ring(n_peers)
        return donors.random(n_peers, draw) if self.donors == "random" else None

    def _sources_of(self, values: Sequence[float]) -> Sources:
        """The donors of one layer, by its values."""
        return donors.best(values) if self.donors == "best" else donors.mean(values)
