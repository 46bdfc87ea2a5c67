"""What every rule is: who gives how much, what travels, and how it is taken in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from peercollab.transplant.criteria import Criterion
from peercollab.transplant.exchange import Every, Exchange
from peercollab.transplant.layers import Layer, LayerMap
from peercollab.transplant.plan import LayerStatistics, Request, Transfer, TransplantPlan

Select = Literal["best", "uniform-soup", "greedy-soup"]

# A tensor of the model, with the optimizer's moments of it where they travel too.
Bundle = tuple[Tensor, ...]
Bundles = Mapping[str, Bundle]

# What a rule remembers from exchange to exchange: tensors by what they are and whose.
Memory = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Intake:
    """All that one receiver mixes in one exchange.

    Attributes
    ----------
    me
        The receiver.
    plan
        The part of the plan that concerns it.
    own
        Its tensors that take part, by name: writing to one changes the peer.
    given
        What each donor gave, in ascending order of donors; only read.
    shares
        Of each donor, its share in each tensor.
    buffers
        Tensors that are statistics of a layer, not parameters.
    """

    me: int
    plan: TransplantPlan
    own: Bundles
    given: Mapping[int, Bundles]
    shares: Mapping[int, Mapping[str, float]]
    buffers: frozenset[str] = frozenset()

    def in_order(self, name: str) -> list[Bundle]:
        """The tensor as each peer that takes part holds it, in the order of the peers."""
        return [self.own[name] if p == self.me else self.given[p][name] for p in self.plan.peers]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A way of giving weights from peer to peer; its fields are its options.

    Rules are pure: what one must remember it is handed as `Memory`, which lives in the peers.

    Attributes
    ----------
    name, reference
        What it is called on the command line, and where it comes from.
    exchanges
        Whether anything is done at all.
    every, at_end, shared_start, select
        What a run does unless told otherwise: steps between exchanges, whether an epoch ends
        with one in any case, whether all peers begin with the same weights, how the run ends.
    ranked
        Whether the state before or after an epoch's last exchange is ranked and kept.
    has_donors
        Whether anything comes from other peers.
    addressed
        Whether what a donor gives depends on the receiver.
    remembers
        Whether peers that sit an exchange out must follow it, to remember the same.
    moments_travel
        Whether the optimizer's moments can travel with the weights.
    aligns
        Whether a donor's units can be permuted before they are mixed.
    measured
        Whether only mixing tells how much a donor gave, because the plan's share is a proposal.
    """

    name: ClassVar[str]
    reference: ClassVar[str]
    exchanges: ClassVar[bool] = True
    every: ClassVar[Every] = "epoch"
    at_end: ClassVar[bool] = False
    shared_start: ClassVar[bool] = False
    select: ClassVar[Select] = "best"
    ranked: ClassVar[Literal["before", "after"]] = "before"
    has_donors: ClassVar[bool] = True
    addressed: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    moments_travel: ClassVar[bool] = True
    aligns: ClassVar[bool] = False
    measured: ClassVar[bool] = False

    @property
    def measure(self) -> Criterion | None:
        """What the coordinator must know of every layer; None if nothing."""
        return None

    @property
    def takes_from_all(self) -> bool:
        """Whether a receiver takes whole layers of every other peer, not each of one donor."""
        return False

    def idle(self) -> Mapping[str, str]:
        """Own options that the others switch off, with what would switch each on."""
        return {}

    def travels(self, dimensions: int) -> bool:
        """Whether a tensor of so many dimensions takes part."""
        return self.exchanges

    def transfers(
        self,
        exchange: Exchange,
        peers: Sequence[int],
        absent: Sequence[int],
        layers: Sequence[str],
        statistics: Mapping[int, LayerStatistics],
    ) -> tuple[Transfer, ...]:
        """Who gives how much of which layer to whom.

        Parameters
        ----------
        exchange
            The occasion.
        peers, absent
            Who takes part, two or more, and who sits the exchange out.
        layers
            Names of the layers that take part.
        statistics
            For each peer that takes part the criterion's value of each of these layers.
        """
        return ()

    def begin(self, own: Bundles) -> Memory:
        """What is remembered before a peer has been trained at all."""
        return {}

    def give(self, own: Bundles, request: Request) -> Bundles:
        """What a donor gives of the tensors asked for: these, or some of their entries."""
        return own

    def take(self, intake: Intake, memory: Memory) -> Mapping[str, float]:
        """Mix what was given into the receiver's own tensors, in place.

        Here: tensor by tensor, what the donors gave, weighted by their shares, as one.

        Returns
        -------
        Mapping
            Of a rule whose shares are measured, each tensor's: how far it went towards the donor.
        """
        measured: dict[str, float] = {}
        for name, own in intake.own.items():
            parts = [
                (intake.shares[donor][name], given[name])
                for donor, given in intake.given.items()
                if name in given
            ]
            if not parts:
                continue
            total = sum(share for share, _ in parts)
            donor = tuple(
                _weighted([(share / total, part[i]) for share, part in parts])
                for i in range(len(own))
            )
            new = self.mix(name, own, donor, 1 - total)
            if self.measured:
                measured[name] = _share_towards(own[0], donor[0], new[0])
            for own_T, new_T in zip(own, new, strict=True):
                own_T.copy_(new_T)
        return measured

    def mix(self, name: str, own: Bundle, donor: Bundle, keep: float) -> Bundle:
        """The receiver's new tensors, from its own and one donor's; neither is changed.

        Parameters
        ----------
        name
            What the tensor is called in the model's state.
        own, donor
            The weight, and the moments that travel with it.
        keep
            The share of its own that the receiver keeps.
        """
        kept = self.kept(own[0], keep)
        return tuple(_blend(o, d, kept) for o, d in zip(own, donor, strict=True))

    def kept(self, own_T: Tensor, keep: float) -> float | Tensor:
        """The share of each entry that is kept, or bool of the weight's shape: which ones are."""
        return keep


def travelling(layer: Layer, rule: Rule) -> list[str]:
    """Names of the layer's tensors that take part in the rule's exchange."""
    return [name for name, shape in layer.tensors.items() if rule.travels(len(shape))]


def make_plan(
    exchange: Exchange,
    rule: Rule,
    layers: LayerMap,
    statistics: Mapping[int, LayerStatistics],
    absent: Sequence[int] = (),
) -> TransplantPlan:
    """Decide one exchange: a pure function.

    Parameters
    ----------
    exchange
        The occasion.
    rule
        Decides who gives how much of each layer to whom.
    layers
        The layers that take part.
    statistics
        For every peer that takes part the criterion's value of each of these layers; empty
        mappings for a rule that measures nothing.
    absent
        Peers that sit this exchange out.
    """
    peers = tuple(sorted(statistics))
    if not rule.exchanges or (rule.has_donors and len(peers) < 2):
        return TransplantPlan(exchange, peers)
    if not rule.has_donors:
        return TransplantPlan(exchange, peers, receivers=peers)
    names = [name for name, layer in layers.items() if travelling(layer, rule)]
    transfers = rule.transfers(exchange, peers, absent, names, statistics)
    receivers = tuple(sorted({transfer.receiver for transfer in transfers}))
    return TransplantPlan(exchange, peers, receivers, transfers, rule.addressed)


def _share_towards(own_T: Tensor, donor_T: Tensor, new_T: Tensor) -> float:
    """The s for which ``own + s * (donor - own)`` comes nearest to the new tensor."""
    way_T = (donor_T - own_T).double()
    squared = float((way_T * way_T).sum())
    return float((way_T * (new_T - own_T)).sum()) / squared if squared else 0.0


def _weighted(parts: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Sum of tensors, each times its weight; a single one as it is."""
    if len(parts) == 1:
        return parts[0][1]
    (weight, first_T), *others = parts
    sum_T = first_T * weight
    for weight, other_T in others:
        sum_T.add_(other_T, alpha=weight)
    return sum_T


def _blend(own_T: Tensor, donor_T: Tensor, kept: float | Tensor) -> Tensor:
    if isinstance(kept, Tensor):
        return own_T.where(kept, donor_T)
    return own_T.mul(kept).add_(donor_T, alpha=1 - kept)
