"""Every rule among real peers: the same bytes everywhere, and nothing but what was planned."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peercollab.actors.coordinator import Coordinator
from peercollab.actors.group import LocalPeers
from peercollab.actors.messages import LayerArrays, PeerReport, PeerSetup, SharedSetup
from peercollab.actors.peer import Peer
from peercollab.actors.ray_peers import CALLS_OF_A_TERM, RayPeers
from peercollab.actors.record import RoundRecord
from peercollab.actors.returning import Returning, in_its_term
from peercollab.data.sequences import Histories
from peercollab.errors import DivergedError
from peercollab.transplant.options import RULES, TransplantOptions, options_of
from peercollab.transplant.rules.own_rule import OwnRule
from peercollab.transplant.rules.rule import Rule

MakeShared = Callable[..., SharedSetup]
Weights = list[LayerArrays]

CPU = torch.device("cpu")
NAMES = [name for name, kind in RULES.items() if kind is not OwnRule]
GROUPS = (1, 3, 8, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4)))
MOST_PEERS = 8
ROUNDS = 2


def setups(n_peers: int) -> list[PeerSetup]:
    return [PeerSetup(n, stream=n, learning_rate=1e-3 * n) for n in range(1, n_peers + 1)]


def copied(weights: LayerArrays) -> LayerArrays:
    return {name: np.array(array) for name, array in weights.items()}


def local(shared: SharedSetup, histories: Histories, own: Sequence[PeerSetup]) -> list[Peer]:
    return [Peer(setup, shared, histories, CPU) for setup in own]


def lead(
    peers: Any, shared: SharedSetup, rounds: int = ROUNDS
) -> tuple[list[RoundRecord], Coordinator]:
    coordinator = Coordinator(peers, shared.transplant, shared.training)
    return [coordinator.run_round(round) for round in range(1, rounds + 1)], coordinator


def outcome(
    shared: SharedSetup, histories: Histories, own: Sequence[PeerSetup]
) -> tuple[list[RoundRecord], Weights]:
    peers = local(shared, histories, own)
    records, _ = lead(LocalPeers(peers), shared)
    return records, [copied(peer.weights()) for peer in peers]


def same(one: Weights, other: Weights) -> bool:
    return all(
        own[name].tobytes() == its[name].tobytes()
        for own, its in zip(one, other, strict=True)
        for name in own
    )


@in_its_term(CALLS_OF_A_TERM - {"train"})
class Chameleon(Returning, Peer):
    """An actor that becomes one peer after another, and is slower the smaller its number."""

    def __init__(self) -> None:
        Returning.__init__(self, "a chameleon")

    def become(self, own: PeerSetup, shared: SharedSetup, histories: Histories) -> None:
        Peer.__init__(self, own, shared, histories, CPU)

    def train(self, round: int, stop: int, term: int = 0) -> str | None:
        answer = super().train(round, stop)
        time.sleep(0.004 * (8 - self.number))
        return answer


@pytest.fixture(scope="module")
def actors(ray_cluster: None) -> Iterator[list[Any]]:
    import ray

    handles = [ray.remote(Chameleon).options(num_cpus=0.2).remote() for _ in range(MOST_PEERS)]
    yield handles
    for handle in handles:
        ray.kill(handle)


@pytest.mark.parametrize("n_peers", GROUPS)
@pytest.mark.parametrize("rule", NAMES)
def test_actors_and_local_peers_come_to_the_same_bytes(
    rule: str,
    n_peers: int,
    actors: list[Any],
    make_shared: MakeShared,
    histories: Histories,
) -> None:
    shared = make_shared(TransplantOptions(rule=rule), epochs=ROUNDS)
    require_same_bytes(shared, histories, setups(n_peers), actors)


OTHER_WAYS: list[dict[str, Any]] = [
    {"donors": "best"},
    {"donors": "mean", "criterion": "importance"},
    {"donors": "random", "moments": "transplant"},
    {"rule": "average", "align": True},
    {"rule": "parameter-wise", "moments": "reset"},
    {"rule": "papa", "exchange_every": 2, "align": True, "moments": "transplant"},
    {"rule": "diloco", "exchange_every": 3},
    {"layers": "final", "select": "greedy-soup"},
]


@pytest.mark.slow
@pytest.mark.parametrize("given", OTHER_WAYS, ids=lambda given: " ".join(map(str, given.values())))
def test_with_other_options_they_come_to_the_same_bytes_too(
    given: dict[str, Any], actors: list[Any], make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(**given), epochs=ROUNDS)
    require_same_bytes(shared, histories, setups(4), actors)


def require_same_bytes(
    shared: SharedSetup, histories: Histories, own: Sequence[PeerSetup], actors: list[Any]
) -> None:
    import ray

    records, weights = outcome(shared, histories, own)
    handles = actors[: len(own)]
    ray.get([h.become.remote(s, shared, histories) for h, s in zip(handles, own, strict=True)])
    from_afar, _ = lead(RayPeers(handles, patience=60), shared)
    assert same(weights, ray.get([handle.weights.remote() for handle in handles]))
    for here, there in zip(records, from_afar, strict=True):
        assert here.shares == there.shares
        assert here.bytes_moved == there.bytes_moved
        assert here.best == there.best


class Backwards(LocalPeers):
    """Peers that work in the opposite order."""

    def train(self, round: int, stop: int) -> dict[int, str | None]:
        return {p: self.peers[p].train(round, stop) for p in reversed(self.present)}

    def rank(self, round: int) -> dict[int, PeerReport]:
        return {p: self.peers[p].rank(round) for p in reversed(self.present)}


@pytest.mark.parametrize("rule", NAMES)
def test_the_order_in_which_peers_work_changes_nothing(
    rule: str, make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule=rule))
    _, weights = outcome(shared, histories, setups(3))
    peers = local(shared, histories, setups(3))
    lead(Backwards(peers), shared)
    assert same(weights, [peer.weights() for peer in peers])


@pytest.mark.parametrize("rule", [name for name in NAMES if name != "none"])
def test_every_rule_but_none_changes_the_weights(
    rule: str, make_shared: MakeShared, histories: Histories
) -> None:
    start = "shared" if RULES[rule].shared_start else "own"
    none = make_shared(TransplantOptions(rule="none"), init=start)
    _, apart = outcome(none, histories, setups(3))
    _, together = outcome(make_shared(TransplantOptions(rule=rule)), histories, setups(3))
    assert all(not same([one], [other]) for one, other in zip(apart, together, strict=True))


# Of each rule and each of its options a value besides the default, and what it needs.
OTHER_VALUES: dict[str, dict[str, dict[str, Any]]] = {
    "layer-wise": {
        "donors": {"donors": "best"},
        "criterion": {"criterion": "importance"},
        "bins": {"bins": 7},
        "steepness": {"steepness": 3.0},
        "weighting": {"weighting": "arctan"},
        "amplitude": {"weighting": "arctan", "amplitude": 0.9},
        "slope": {"weighting": "arctan", "slope": 2.0},
    },
    "parameter-wise": {
        "donors": {"donors": "mean"},
        "criterion": {"donors": "mean", "criterion": "l1-norm"},
        "bins": {"donors": "mean", "bins": 3},
        "percent": {"percent": 30.0},
    },
    "average": {
        "donors": {"donors": "mean"},
        "criterion": {"donors": "mean", "criterion": "l2-norm"},
        "bins": {"donors": "mean", "bins": 3},
    },
    "noise": {
        "percent": {"percent": 30.0},
        "noise_rate": {"noise_rate": 0.01},
        "noise_period": {"noise_period": 1},
    },
    "papa": {"factor": {"factor": 0.9}},
    "wash": {"share": {"share": 0.1}},
    "sparta": {"share": {"share": 0.1}},
    "diloco": {"outer_lr": {"outer_lr": 0.5}, "outer_momentum": {"outer_momentum": 0.5}},
    "none": {},
}
COMMON: list[dict[str, Any]] = [
    {"layers": "final"},
    {"donors": "random"},
    {"exchange_every": 2},
    {"exchange_every": 2, "rule": "papa"},
    {"exchange_every": "epoch", "rule": "sparta"},
    {"exchange_from": 0.8, "exchange_every": 1},
    {"exchange_until": 0.6},
    {"moments": "transplant"},
    {"moments": "reset"},
    {"moments": "transplant", "rule": "wash"},
    {"moments": "reset", "rule": "noise"},
    {"moments": "transplant", "rule": "diloco"},
    {"align": True},
    {"align": True, "rule": "papa", "exchange_every": 2},
]


@pytest.mark.parametrize("kind", [RULES[name] for name in NAMES], ids=NAMES)
def test_the_table_below_names_every_option_of_every_rule(kind: type[Rule]) -> None:
    assert OTHER_VALUES[kind.name].keys() == options_of(kind).keys()


def test_the_two_tables_together_name_every_option() -> None:
    named = {next(iter(given)) for given in COMMON}
    named |= {option for others in OTHER_VALUES.values() for option in others}
    # Rules and soups have tests of their own here.
    own_tests = {"rule", "select"}
    assert named | own_tests == {field.name for field in fields(TransplantOptions)}
    assert not named & own_tests


@pytest.mark.parametrize(
    ("rule", "option"),
    [(rule, option) for rule, others in OTHER_VALUES.items() for option in others],
)
def test_every_option_of_every_rule_changes_the_outcome(
    rule: str, option: str, make_shared: MakeShared, histories: Histories
) -> None:
    given = OTHER_VALUES[rule][option]
    needed = {name: value for name, value in given.items() if name != option}
    options = [TransplantOptions(rule=rule, **needed), TransplantOptions(rule=rule, **given)]
    one, other = (outcome(make_shared(o, epochs=3), histories, setups(3))[1] for o in options)
    assert not same(one, other)


@pytest.mark.parametrize("given", COMMON, ids=repr)
def test_every_common_option_changes_the_outcome(
    given: dict[str, Any], make_shared: MakeShared, histories: Histories
) -> None:
    option = next(iter(given))
    needed = {name: value for name, value in given.items() if name != option}
    options = [TransplantOptions(**needed), TransplantOptions(**given)]
    one, other = (outcome(make_shared(o, epochs=2), histories, setups(4))[1] for o in options)
    assert not same(one, other)


def entries_of(weights: LayerArrays, least_dimensions: int = 0) -> int:
    return sum(array.size for array in weights.values() if array.ndim >= least_dimensions)


@pytest.mark.parametrize("n_peers", [2, 3])
@pytest.mark.parametrize("moments", ["keep", "transplant"])
def test_the_bytes_that_moved_are_those_of_the_plan(
    n_peers: int, moments: str, make_shared: MakeShared, histories: Histories
) -> None:
    def moved(**options: Any) -> tuple[int, LayerArrays]:
        shared = make_shared(TransplantOptions(moments=moments, **options))  # type: ignore[arg-type]
        peers = local(shared, histories, setups(n_peers))
        (record,), _ = lead(LocalPeers(peers), shared, rounds=1)
        assert record.exchanges == bool(record.bytes_moved)
        return record.bytes_moved, peers[0].weights()

    each = 4 * (3 if moments == "transplant" else 1)
    others = n_peers * (n_peers - 1)
    size, weights = moved(rule="average")
    every = entries_of(weights)
    assert size == n_peers * every * each
    assert moved(steepness=1.0)[0] == n_peers * every * each
    assert moved(rule="parameter-wise")[0] == n_peers * entries_of(weights, 2) * each
    final = weights["output.weight"].size + weights["output.bias"].size
    assert moved(rule="average", layers="final")[0] == n_peers * final * each
    assert moved(rule="papa", exchange_every="epoch")[0] == others * every * each
    assert moved(rule="papa", exchange_every="epoch", factor=1.0)[0] == 0
    assert moved(rule="diloco")[0] == others * every * each
    assert moved(rule="average", donors="mean")[0] == others * every * each
    few = round(0.1 * every)
    assert moved(rule="sparta", exchange_every="epoch", share=0.1)[0] == others * few * each
    shuffled, _ = moved(rule="wash", exchange_every="epoch", share=0.1)
    # A random permutation leaves one of N in its place, on average.
    assert shuffled % each == 0
    assert shuffled / (each * few * (n_peers - 1)) == pytest.approx(1, abs=0.15)


def poke(peer: Peer, value: float) -> None:
    with torch.no_grad():
        peer.trainer.model.get_parameter("blocks.0.key.weight")[2, 1] = value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", NAMES)
def test_a_weight_that_is_no_number_stays_where_it_is(
    rule: str, value: float, make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule=rule))
    peers = local(shared, histories, setups(3))
    records, coordinator = lead(LocalPeers(peers), shared, rounds=1)
    finite = copied(peers[1].weights())
    poke(peers[1], value)
    record = coordinator.run_round(2).as_json()
    (failure,) = record["failures"]
    assert failure["peer"] == 2
    assert "NaN or infinite" in failure["reason"]
    assert same([peers[1].weights()], [finite])
    if rule != "diloco":
        assert all(2 not in (t["receiver"], t["donor"]) for t in record["transfers"])
    assert record["peers"][1]["loss"] is None
    assert record["peers"][1]["validation"] is None
    for peer in peers:
        assert all(np.isfinite(array).all() for array in peer.weights().values())
    # Then it takes part again.
    assert coordinator.run_round(3).as_json()["failures"] == []
    assert not same([peers[1].weights()], [finite])
    assert len(records) == 1


# At the second rate weights are huge after the first step, and not finite after the second.
@pytest.mark.parametrize("rate", [math.inf, 1e20])
@pytest.mark.parametrize("rule", ["layer-wise", "papa", "diloco", "wash", "sparta"])
def test_a_peer_that_diverges_in_training_sits_out_and_the_others_go_on(
    rule: str, rate: float, make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule=rule))
    wild = [PeerSetup(1, 1, 1e-3), PeerSetup(2, 2, rate), PeerSetup(3, 3, 1e-3)]
    peers = local(shared, histories, wild)
    records, _ = lead(LocalPeers(peers), shared, rounds=3)
    for record in records:
        (failure,) = record.as_json()["failures"]
        assert failure["peer"] == 2
        assert "lower --lr" in failure["reason"]
        if rate < math.inf and shared.transplant.every == 1:
            assert "the largest weight came to 1e+20, above 1e+04, by step 1" in failure["reason"]
        assert record.best is not None
        assert record.best.peer != 2
    for peer in peers:
        assert all(np.isfinite(array).all() for array in peer.weights().values())


def test_a_run_whose_peers_are_all_lost_ends_with_advice(
    make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions())
    with pytest.raises(DivergedError, match="lower --lr"):
        lead(LocalPeers(local(shared, histories, [PeerSetup(1, 1, 1e30)])), shared)


def test_moments_that_are_not_finite_do_not_travel(
    make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule="average", moments="transplant"))
    peers = local(shared, histories, setups(2))
    _, coordinator = lead(LocalPeers(peers), shared, rounds=1)
    # A second moment that overflows stops its weight, and is not seen in any weight.
    peers[0].trainer.moments()["output.weight"][1][0, 0] = math.inf
    record = coordinator.run_round(2).as_json()
    assert [failure["peer"] for failure in record["failures"]] == [1]
    assert all(m.isfinite().all() for p in peers for ms in p.trainer.moments().values() for m in ms)


def test_moments_are_reset_where_weights_changed_and_nowhere_else(
    make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule="parameter-wise", percent=30, moments="reset"))
    kept = make_shared(TransplantOptions(rule="parameter-wise", percent=30))
    outcomes = []
    for of in (kept, shared):
        peers = local(of, histories, setups(2))
        before: dict[str, torch.Tensor] = {}

        class Watched(LocalPeers):
            def transplant(self, plan: Any) -> Any:
                weights = self.peers[0].trainer.model.state_dict().items()
                before.update({name: value.clone() for name, value in weights})  # noqa: B023
                return super().transplant(plan)

        lead(Watched(peers), of, rounds=1)
        outcomes.append((before, peers[0].trainer))
    (before, with_moments), (_, without) = outcomes
    any_changed = False
    for name, now in without.model.state_dict().items():
        changed = now != before[name]
        any_changed |= bool(changed.any())
        for old, new in zip(with_moments.moments()[name], without.moments()[name], strict=True):
            assert torch.equal(new, torch.where(changed, torch.zeros_like(old), old))
    assert any_changed


def test_moments_travel_with_the_entries_that_do(
    make_shared: MakeShared, histories: Histories
) -> None:
    every = {"rule": "parameter-wise", "percent": 100.0}
    shared = make_shared(TransplantOptions(**every, moments="transplant"))  # type: ignore[arg-type]
    apart = make_shared(TransplantOptions(rule="none"))
    alone, together = (local(of, histories, setups(2)) for of in (apart, shared))
    for of, peers in ((apart, alone), (shared, together)):
        lead(LocalPeers(peers), of, rounds=1)
    for name, moments in together[0].trainer.moments().items():
        donor = alone[1 if moments[0].ndim >= 2 else 0].trainer.moments()[name]
        for moment, expected in zip(moments, donor, strict=True):
            assert torch.equal(moment, expected)


@pytest.mark.parametrize("select", ["uniform-soup", "greedy-soup"])
def test_a_soup_is_kept_with_its_ingredients(
    select: Any, make_shared: MakeShared, histories: Histories
) -> None:
    from peercollab.training.metrics import metrics_of

    shared = make_shared(TransplantOptions(rule="papa", select=select), init="shared", lr=1e-2)
    peers = local(shared, histories, [PeerSetup(n, n, 1e-2) for n in (1, 2, 3)])
    records, coordinator = lead(LocalPeers(peers), shared, rounds=3)
    soup = coordinator.finish()
    assert soup is not None
    best = {
        report.peer: max((r.peers[report.peer - 1].validation or {})["ndcg@10"] for r in records)
        for report in records[0].peers
    }
    values = [ingredient.value for ingredient in soup.ingredients]
    assert values == sorted(values, reverse=True)
    assert all(best[ingredient.peer] == ingredient.value for ingredient in soup.ingredients)
    assert values[0] == max(best.values())
    if select == "uniform-soup":
        assert len(values) == 3
    else:
        assert soup.validation["ndcg@10"] >= max(best.values())
    assert metrics_of(peers[0].rank_selected("validation")) == soup.validation


def test_the_soup_of_one_peer_is_its_best_state(
    make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(select="uniform-soup"))
    records, coordinator = lead(LocalPeers(local(shared, histories, setups(1))), shared)
    soup, best = coordinator.finish(), records[-1].best
    assert soup is not None
    assert best is not None
    assert soup.ingredients == [best]
    assert soup.validation["ndcg@10"] == best.value


def test_a_ruined_peer_sits_the_next_round_out_after_a_return_too(
    make_shared: MakeShared, histories: Histories, tmp_path: Path
) -> None:
    shared = make_shared(TransplantOptions())
    peers = local(shared, histories, setups(2))
    group = LocalPeers(peers)
    lead(group, shared, rounds=1)
    poke(peers[1], math.nan)
    peers[1].settle()
    group.checkpoint(tmp_path)
    group.restore(tmp_path)
    assert all(np.isfinite(array).all() for array in peers[1].weights().values())
    assert "NaN or infinite" in str(peers[1].train(2, 1))
    assert peers[0].train(2, 1) is None
