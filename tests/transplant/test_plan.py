"""The plan of an exchange is a pure function of statistics, rule and occasion."""

import copy
import random
import sys
from collections import defaultdict
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peercollab.transplant.donors import Donors
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.layers import Layer, LayerMap
from peercollab.transplant.plan import Transfer, TransplantPlan
from peercollab.transplant.rules.average import Average
from peercollab.transplant.rules.diloco import DiLoCo
from peercollab.transplant.rules.layer_rule import LayerRule
from peercollab.transplant.rules.layer_wise import LayerWise
from peercollab.transplant.rules.noise import Noise
from peercollab.transplant.rules.none import NoExchange
from peercollab.transplant.rules.papa import Papa
from peercollab.transplant.rules.parameter_wise import ParameterWise
from peercollab.transplant.rules.rule import Rule, make_plan, travelling
from peercollab.transplant.rules.sparta import Sparta
from peercollab.transplant.rules.wash import Wash

LAYERS: LayerMap = {
    "items": Layer("items", "embedding", {"items.weight": (7, 4)}),
    "linear": Layer("linear", "middle", {"linear.weight": (4, 4), "linear.bias": (4,)}),
    "norm": Layer("norm", "middle", {"norm.weight": (4,), "norm.bias": (4,)}),
}
NOW = Exchange(round=7, step=3, draw=11)
PAIRWISE = [
    LayerWise(),
    LayerWise(criterion="l1-norm", steepness=2.0),
    ParameterWise(percent=30),
    Average(),
]
FROM_ALL = [Papa(), DiLoCo(), Wash(), Sparta()]
DONORS: list[Donors] = ["ring", "best", "random", "mean"]


def statistics_of(peers: int) -> dict[int, dict[str, float]]:
    return {
        peer: {name: 0.3 * peer + 0.01 * at for at, name in enumerate(LAYERS)}
        for peer in range(peers)
    }


def received(plan: TransplantPlan) -> dict[int, dict[str, float]]:
    """By receiver and layer, the share that comes from all donors."""
    sums: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for transfer in plan.transfers:
        for layer, share in transfer.shares.items():
            sums[transfer.receiver][layer] += share
    return sums


@pytest.mark.parametrize("rule", PAIRWISE, ids=repr)
@pytest.mark.parametrize("peers", [2, 3, 4, 5])
def test_in_a_ring_every_peer_gives_once_and_receives_once(peers: int, rule: Rule) -> None:
    plan = make_plan(NOW, rule, LAYERS, statistics_of(peers))
    assert plan.exchange == NOW
    assert plan.receivers == plan.peers == tuple(range(peers))
    assert [transfer.receiver for transfer in plan.transfers] == list(range(peers))
    for transfer in plan.transfers:
        assert transfer.donor == (transfer.receiver - 1) % peers != transfer.receiver


@pytest.mark.parametrize("rule", FROM_ALL, ids=lambda rule: rule.name)
@pytest.mark.parametrize("peers", [2, 3, 5])
def test_rules_of_the_whole_group_give_from_each_to_each(peers: int, rule: Rule) -> None:
    plan = make_plan(NOW, rule, LAYERS, statistics_of(peers))
    pairs = {(transfer.receiver, transfer.donor) for transfer in plan.transfers}
    assert pairs == {(i, j) for i in range(peers) for j in range(peers) if i != j}
    assert all(list(transfer.shares) == list(LAYERS) for transfer in plan.transfers)
    for shares in received(plan).values():
        assert all(0 < share < 1 for share in shares.values())


@pytest.mark.parametrize("rule", [*PAIRWISE, *FROM_ALL], ids=repr)
def test_a_single_peer_receives_nothing(rule: Rule) -> None:
    assert make_plan(NOW, rule, LAYERS, statistics_of(1)) == TransplantPlan(NOW, (0,))


def test_none_plans_nothing_and_noise_plans_no_transfer() -> None:
    empty: dict[int, dict[str, float]] = {peer: {} for peer in range(3)}
    assert make_plan(NOW, NoExchange(), LAYERS, empty) == TransplantPlan(NOW, (0, 1, 2))
    assert make_plan(NOW, Noise(), LAYERS, empty) == TransplantPlan(NOW, (0, 1, 2), (0, 1, 2))
    assert make_plan(NOW, Noise(), LAYERS, {0: {}}).receivers == (0,)


@given(
    st.lists(
        st.fixed_dictionaries({name: st.floats(0, 2.4) for name in LAYERS}), min_size=2, max_size=5
    )
)
def test_shares_come_from_what_receiver_and_donor_held_before_the_round(
    values: list[dict[str, float]],
) -> None:
    # Simultaneous exchange: no transfer sees what another has changed.
    rule = LayerWise()
    statistics = dict(enumerate(values))
    for transfer in make_plan(NOW, rule, LAYERS, statistics).transfers:
        own, donor = statistics[transfer.receiver], statistics[transfer.donor]
        shares = {name: 1 - rule.keep(own[name], donor[name]) for name in LAYERS}
        assert transfer.shares == {name: share for name, share in shares.items() if share}


def test_with_two_peers_the_shares_mirror_each_other() -> None:
    first, second = make_plan(NOW, LayerWise(), LAYERS, statistics_of(2)).transfers
    for name in LAYERS:
        assert first.shares[name] + second.shares[name] == pytest.approx(1.0, abs=1e-15)
        assert second.shares[name] < 0.5 < first.shares[name]


@pytest.mark.parametrize("rule", [*PAIRWISE, *FROM_ALL], ids=repr)
def test_planning_is_pure_and_blind_to_the_order_of_answers(rule: Rule) -> None:
    statistics = statistics_of(4)
    before = copy.deepcopy(statistics)
    first = make_plan(NOW, rule, LAYERS, statistics)
    assert make_plan(NOW, rule, LAYERS, statistics) == first
    assert make_plan(NOW, rule, LAYERS, dict(reversed(statistics.items()))) == first
    assert statistics == before


def test_a_rule_that_measures_nothing_needs_no_statistics() -> None:
    for rule, share in ((Average(), 0.5), (ParameterWise(percent=40), 0.4)):
        for transfer in make_plan(NOW, rule, LAYERS, {0: {}, 1: {}}).transfers:
            assert all(given == pytest.approx(share) for given in transfer.shares.values())


def test_only_the_layers_that_take_part_are_planned() -> None:
    chosen = {"linear": LAYERS["linear"]}
    plan = make_plan(NOW, Average(), chosen, {0: {}, 1: {}})
    assert plan.transfers == (Transfer(0, 1, {"linear": 0.5}), Transfer(1, 0, {"linear": 0.5}))


def test_parameter_wise_plans_no_layer_without_a_matrix() -> None:
    rule = ParameterWise()
    for transfer in make_plan(NOW, rule, LAYERS, {0: {}, 1: {}}).transfers:
        assert set(transfer.shares) == {"items", "linear"}
    assert travelling(LAYERS["linear"], rule) == ["linear.weight"]
    assert travelling(LAYERS["norm"], rule) == []
    assert travelling(LAYERS["norm"], LayerWise()) == ["norm.weight", "norm.bias"]


@pytest.mark.parametrize(
    "rule", [ParameterWise(percent=0), Papa(factor=1)], ids=lambda rule: rule.name
)
def test_what_is_not_taken_is_not_planned(rule: Rule) -> None:
    plan = make_plan(NOW, rule, LAYERS, {0: {}, 1: {}})
    assert plan.transfers == ()
    assert plan.receivers == ()


def test_a_layer_of_which_a_peer_keeps_all_does_not_travel() -> None:
    statistics = {0: dict.fromkeys(LAYERS, 9.0), 1: dict.fromkeys(LAYERS, 0.0)}
    (transfer,) = make_plan(NOW, LayerWise(), LAYERS, statistics).transfers
    assert (transfer.receiver, transfer.donor) == (1, 0)
    assert transfer.shares == dict.fromkeys(LAYERS, 1.0)


@pytest.mark.parametrize("kind", DONORS)
@pytest.mark.parametrize("rule", [LayerWise, Average, ParameterWise])
def test_with_two_peers_all_donors_are_the_same(rule: type[LayerRule], kind: Donors) -> None:
    statistics = statistics_of(2)
    ring = make_plan(NOW, rule(), LAYERS, statistics)
    assert make_plan(NOW, rule(donors=kind), LAYERS, statistics) == ring


def test_the_best_donor_of_a_layer_has_its_highest_value_among_the_others() -> None:
    statistics = {
        0: {"items": 1.0, "linear": 5.0, "norm": 2.0},
        1: {"items": 3.0, "linear": 5.0, "norm": 2.0},
        2: {"items": 2.0, "linear": 4.0, "norm": 9.0},
    }
    plan = make_plan(NOW, Average(donors="best"), LAYERS, statistics)
    donors = {
        (transfer.receiver, layer): transfer.donor
        for transfer in plan.transfers
        for layer in transfer.shares
    }
    assert donors == {
        (0, "items"): 1, (1, "items"): 2, (2, "items"): 1,
        (0, "linear"): 1, (1, "linear"): 0, (2, "linear"): 0,
        (0, "norm"): 2, (1, "norm"): 2, (2, "norm"): 0,
    }  # fmt: skip


def test_random_donors_are_a_derangement_that_the_draw_decides() -> None:
    seen = set()
    for draw in range(200):
        plan = make_plan(Exchange(1, 1, draw), Average(donors="random"), LAYERS, statistics_of(4))
        donors = tuple(transfer.donor for transfer in plan.transfers)
        assert sorted(donors) == [0, 1, 2, 3]
        assert all(receiver != donor for receiver, donor in enumerate(donors))
        seen.add(donors)
    # Four things have nine derangements.
    assert len(seen) == 9


def test_the_mean_weighs_all_others_by_their_value() -> None:
    statistics = {0: {"items": 1.0}, 1: {"items": 2.0}, 2: {"items": 6.0}, 3: {"items": 0.0}}
    plan = make_plan(NOW, Average(donors="mean"), {"items": LAYERS["items"]}, statistics)
    to_first = {t.donor: t.shares["items"] for t in plan.transfers if t.receiver == 0}
    assert to_first == pytest.approx({1: 0.5 * 2 / 8, 2: 0.5 * 6 / 8})
    nothing = {peer: {"items": 0.0} for peer in range(3)}
    plan = make_plan(NOW, Average(donors="mean"), {"items": LAYERS["items"]}, nothing)
    assert [t.shares["items"] for t in plan.transfers] == [0.25] * 6


def test_the_mean_is_compared_as_the_mixture_that_it_is() -> None:
    statistics = {0: {"items": 1.0}, 1: {"items": 2.0}, 2: {"items": 1.0}}
    rule = LayerWise(donors="mean", steepness=3)
    plan = make_plan(NOW, rule, {"items": LAYERS["items"]}, statistics)
    mixture = 2.0 * (2 / 3) + 1.0 * (1 / 3)
    assert received(plan)[0]["items"] == pytest.approx(1 - rule.keep(1.0, mixture))


@pytest.mark.parametrize("rule", [*PAIRWISE, *FROM_ALL], ids=repr)
@pytest.mark.parametrize("kind", DONORS)
def test_a_peer_that_sits_out_neither_gives_nor_takes(rule: Rule, kind: Donors) -> None:
    if isinstance(rule, LayerRule):
        rule = type(rule)(donors=kind)
    statistics = statistics_of(4)
    del statistics[1]
    plan = make_plan(NOW, rule, LAYERS, statistics, absent=[1])
    assert plan.peers == (0, 2, 3)
    assert all(transfer.donor != 1 for transfer in plan.transfers)
    to_absent = [transfer for transfer in plan.transfers if transfer.receiver == 1]
    # DiLoCo's has to know how the others moved, of which it takes nothing.
    assert bool(to_absent) == rule.remembers
    assert all(share == 0 for transfer in to_absent for share in transfer.shares.values())
    alone = {0: statistics[0]}
    assert make_plan(NOW, rule, LAYERS, alone, absent=[1, 2, 3]).transfers == ()


def test_a_donor_is_asked_once_for_what_all_its_receivers_get_alike() -> None:
    statistics = statistics_of(4)
    assert len(make_plan(NOW, Papa(), LAYERS, statistics).requests()) == 4
    assert len(make_plan(NOW, Wash(), LAYERS, statistics).requests()) == 12


def lines_run(donors: Donors, peers: int, layers: int) -> int:
    """How many lines of Python a plan takes, each turn of a loop counted: its work, no time."""
    names = [f"layers.{at}" for at in range(layers)]
    found = {name: Layer(name, "middle", {f"{name}.weight": (4, 4)}) for name in names}
    generator = random.Random(1)
    statistics = {peer: {name: generator.random() for name in names} for peer in range(peers)}
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        make_plan(NOW, LayerWise(donors=donors), found, statistics)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind", ["ring", "best", "random"])
def test_the_work_of_a_plan_grows_as_peers_and_layers_do(kind: Donors) -> None:
    few = lines_run(kind, 16, 40)
    assert lines_run(kind, 32, 40) < 2.6 * few
    assert lines_run(kind, 16, 80) < 2.2 * few


def test_the_work_for_the_mean_of_all_others_does_not() -> None:
    assert lines_run("mean", 32, 40) > 3 * lines_run("mean", 16, 40)


def test_the_pull_of_papa_shrinks_with_the_learning_rate() -> None:
    for pull in (1.0, 0.25):
        plan = make_plan(Exchange(1, 1, 0, pull), Papa(factor=0.9), LAYERS, statistics_of(4))
        shares = [share for transfer in plan.transfers for share in transfer.shares.values()]
        assert shares == [pytest.approx(0.1 * pull / 4)] * len(shares)
