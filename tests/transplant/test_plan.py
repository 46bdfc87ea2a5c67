"""The plan of a round is a pure function of statistics."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peercollab.transplant.donors import ring
from peercollab.transplant.layers import Layer, LayerMap
from peercollab.transplant.plan import Transfer, TransplantPlan, make_plan, travelling
from peercollab.transplant.rules.average import Average
from peercollab.transplant.rules.layer_wise import LayerWise
from peercollab.transplant.rules.none import NoExchange
from peercollab.transplant.rules.parameter_wise import ParameterWise
from peercollab.transplant.rules.rule import Rule

LAYERS: LayerMap = {
    "items": Layer("items", "embedding", {"items.weight": (7, 4)}),
    "linear": Layer("linear", "middle", {"linear.weight": (4, 4), "linear.bias": (4,)}),
    "norm": Layer("norm", "middle", {"norm.weight": (4,), "norm.bias": (4,)}),
}
EXCHANGING = [LayerWise(), LayerWise("l1-norm", 2.0), ParameterWise(30), Average()]


def statistics_of(peers: int) -> list[dict[str, float]]:
    return [
        {name: 0.3 * peer + 0.01 * at for at, name in enumerate(LAYERS)} for peer in range(peers)
    ]


@pytest.mark.parametrize(
    ("peers", "donors"),
    [(1, [0]), (2, [1, 0]), (3, [2, 0, 1]), (4, [3, 0, 1, 2]), (5, [4, 0, 1, 2, 3])],
)
def test_ring_gives_from_each_peer_to_the_next(peers: int, donors: list[int]) -> None:
    assert ring(peers) == donors


@pytest.mark.parametrize("rule", EXCHANGING, ids=repr)
@pytest.mark.parametrize("peers", [2, 3, 4, 5])
def test_every_peer_gives_once_and_receives_once(peers: int, rule: Rule) -> None:
    plan = make_plan(7, rule, LAYERS, statistics_of(peers))
    assert plan.round == 7
    assert sorted(transfer.receiver for transfer in plan.transfers) == list(range(peers))
    assert sorted(transfer.donor for transfer in plan.transfers) == list(range(peers))
    for transfer in plan.transfers:
        assert transfer.donor == (transfer.receiver - 1) % peers != transfer.receiver


@pytest.mark.parametrize("rule", EXCHANGING, ids=repr)
def test_a_single_peer_receives_nothing(rule: Rule) -> None:
    assert make_plan(1, rule, LAYERS, statistics_of(1)) == TransplantPlan(1, ())


def test_none_plans_nothing() -> None:
    assert make_plan(3, NoExchange(), LAYERS, [{}, {}, {}]) == TransplantPlan(3, ())


@given(
    st.lists(
        st.fixed_dictionaries({name: st.floats(0, 2.4) for name in LAYERS}), min_size=2, max_size=5
    )
)
def test_shares_come_from_what_receiver_and_donor_held_before_the_round(
    statistics: list[dict[str, float]],
) -> None:
    # Simultaneous exchange: no transfer sees what another has changed.
    rule = LayerWise("entropy", 30.0)
    for transfer in make_plan(1, rule, LAYERS, statistics).transfers:
        own, donor = statistics[transfer.receiver], statistics[transfer.donor]
        assert transfer.keep == {name: rule.keep(own[name], donor[name]) for name in LAYERS}


def test_with_two_peers_the_shares_mirror_each_other() -> None:
    first, second = make_plan(1, LayerWise(), LAYERS, statistics_of(2)).transfers
    for name in LAYERS:
        assert first.keep[name] + second.keep[name] == pytest.approx(1.0, abs=1e-15)
        assert first.keep[name] < 0.5 < second.keep[name]


@pytest.mark.parametrize("rule", EXCHANGING, ids=repr)
def test_planning_is_pure(rule: Rule) -> None:
    statistics = statistics_of(3)
    before = copy.deepcopy(statistics)
    first = make_plan(2, rule, LAYERS, statistics)
    assert make_plan(2, rule, LAYERS, statistics) == first
    assert statistics == before


def test_a_rule_that_measures_nothing_needs_no_statistics() -> None:
    for rule, keep in ((Average(), 0.5), (ParameterWise(40), 0.6)):
        for transfer in make_plan(1, rule, LAYERS, [{}, {}]).transfers:
            assert all(share == pytest.approx(keep) for share in transfer.keep.values())


def test_only_the_layers_that_take_part_are_planned() -> None:
    chosen = {"linear": LAYERS["linear"]}
    plan = make_plan(1, Average(), chosen, [{}, {}])
    assert plan.transfers == (Transfer(0, 1, {"linear": 0.5}), Transfer(1, 0, {"linear": 0.5}))


def test_parameter_wise_plans_no_layer_without_a_matrix() -> None:
    for transfer in make_plan(1, ParameterWise(50), LAYERS, [{}, {}]).transfers:
        assert set(transfer.keep) == {"items", "linear"}
    assert travelling(LAYERS["linear"], ParameterWise(50)) == ["linear.weight"]
    assert travelling(LAYERS["norm"], ParameterWise(50)) == []
    assert travelling(LAYERS["norm"], LayerWise()) == ["norm.weight", "norm.bias"]


def test_parameter_wise_with_percent_0_plans_no_layer() -> None:
    plan = make_plan(1, ParameterWise(0), LAYERS, [{}, {}])
    assert all(not transfer.keep for transfer in plan.transfers)
    assert all(travelling(layer, ParameterWise(0)) == [] for layer in LAYERS.values())
