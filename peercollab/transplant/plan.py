"""Who gives which layers to whom, and how much: a pure function of statistics and rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peercollab.transplant.donors import ring
from peercollab.transplant.layers import Layer, LayerMap
from peercollab.transplant.rules.rule import Rule

LayerStatistics = Mapping[str, float]


@dataclass(frozen=True)
class Transfer:
    """What one peer receives from another.

    Attributes
    ----------
    receiver, donor
        Peers, counted from 0.
    keep
        For each layer that takes part, the share of its own weights that the receiver keeps.
    """

    receiver: int
    donor: int
    keep: Mapping[str, float]


@dataclass(frozen=True)
class TransplantPlan:
    """All transfers of one round; every donor gives what it held before the round."""

    round: int
    transfers: tuple[Transfer, ...]


def travelling(layer: Layer, rule: Rule) -> list[str]:
    """Names of the layer's tensors that take part in the rule's exchange."""
    return [name for name, shape in layer.tensors.items() if rule.travels(len(shape))]


def make_plan(
    round: int, rule: Rule, layers: LayerMap, statistics: Sequence[LayerStatistics]
) -> TransplantPlan:
    """Decide one round.

    Parameters
    ----------
    round
        Its number, from 1.
    rule
        Decides how much of each layer a receiver keeps.
    layers
        The layers that take part.
    statistics
        For every peer the criterion's value of each of these layers; empty mappings for a rule
        that measures nothing.
    """
    if not rule.exchanges or len(statistics) < 2:
        return TransplantPlan(round, ())
    return TransplantPlan(
        round,
        tuple(
            Transfer(
                receiver,
                donor,
                {
                    name: rule.keep(
                        statistics[receiver].get(name, 0.0), statistics[donor].get(name, 0.0)
                    )
                    for name, layer in layers.items()
                    if travelling(layer, rule)
                },
            )
            for receiver, donor in enumerate(ring(len(statistics)))
        ),
    )
