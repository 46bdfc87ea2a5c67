"""Networks of any kind as peers, with training of the user's own."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from peercollab import Collaboration, collaborate
from peercollab.errors import PeercollabError

Train = Callable[[nn.Module, int, int], None]

X_NI = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y_N = X_NI @ torch.tensor([1.0, -2.0, 0.5])


def make(peer: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))


def train(network: nn.Module, peer: int, round: int) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05 * peer)
    for _ in range(3):
        rows = torch.randperm(len(X_NI))[:20]
        loss = (network(X_NI[rows]).squeeze(1) - Y_N[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def score(network: nn.Module) -> float:
    with torch.no_grad():
        return -float((network(X_NI).squeeze(1) - Y_N).square().mean())


def states(found: Collaboration) -> list[dict[str, torch.Tensor]]:
    return [network.state_dict() for network in found.networks]


def same(one: Collaboration, other: Collaboration) -> bool:
    return all(
        torch.equal(value, b[name])
        for a, b in zip(states(one), states(other), strict=True)
        for name, value in a.items()
    )


def run(train: Train = train, **options: Any) -> Collaboration:
    return collaborate(make, train, score, **({"rounds": 3} | options))


def test_the_same_seed_is_the_same_result_and_torchs_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = run(), run(), run(seed=11)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, second)
    assert first.scores == second.scores
    assert not same(first, other)


def test_without_exchange_each_is_what_it_would_be_alone() -> None:
    together = run(rule="none", peers=3, threads_per_peer=1)
    alone = run(rule="none", peers=1, threads_per_peer=1)
    assert [by_peer[1] for by_peer in together.scores] == [by[1] for by in alone.scores]
    assert together.shares == [{}, {}, {}]


@pytest.mark.parametrize("rule", ["layer-wise", "parameter-wise", "average", "noise", "papa"])
@pytest.mark.parametrize("peers", [2, 3])
def test_every_rule_changes_what_becomes_of_them(rule: str, peers: int) -> None:
    assert not same(run(rule=rule, peers=peers), run(rule="none", peers=peers))


@pytest.mark.parametrize("rule", ["wash", "sparta", "diloco"])
def test_rules_that_want_one_start_give_one(rule: str) -> None:
    begun: dict[int, list[torch.Tensor]] = {}

    def note(network: nn.Module, peer: int, round: int) -> None:
        begun.setdefault(round, []).append(network.get_parameter("0.weight").detach().clone())
        train(network, peer, round)

    run(note, rule=rule, rounds=2)
    assert torch.equal(*begun[1])
    assert torch.equal(*begun[2]) == (rule == "diloco")


def test_the_mean_of_all_is_what_average_leaves_statistics_included() -> None:
    before: list[dict[str, torch.Tensor]] = []

    def note(network: nn.Module, peer: int, round: int) -> None:
        train(network, peer, round)
        before.append({name: value.clone() for name, value in network.state_dict().items()})

    found = run(note, rule="average", rounds=1)
    for after in states(found):
        for name, value in after.items():
            if value.is_floating_point():
                torch.testing.assert_close(value, (before[0][name] + before[1][name]) / 2)
    assert found.shares == [{peer: dict.fromkeys(("0", "1", "3"), 0.5) for peer in (1, 2)}]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("rule", ["layer-wise", pytest.param("wash", marks=pytest.mark.slow)])
def test_actors_and_local_peers_come_to_the_same(rule: str) -> None:
    here = run(rule=rule, peers=3, threads_per_peer=1)
    there = run(rule=rule, peers=3, threads_per_peer=1, executor="ray")
    assert same(here, there)
    assert (here.scores, here.shares, here.best) == (there.scores, there.shares, there.best)


@pytest.mark.usefixtures("ray_cluster")
def test_what_fails_in_an_actor_is_told() -> None:
    def fail(network: nn.Module, peer: int, round: int) -> None:
        raise ValueError("no images")

    with pytest.raises(PeercollabError, match="the peers' train failed: ValueError: no images"):
        run(fail, executor="ray")


def test_the_last_layer_is_final() -> None:
    found = run(rule="average", layers="final", rounds=1)
    assert found.shares == [{1: {"3": 0.5}, 2: {"3": 0.5}}]


@pytest.mark.parametrize("weight", [math.nan, math.inf, 1e6])
def test_a_peer_whose_weights_blow_up_sits_out_and_comes_back(weight: float) -> None:
    def blow_up(network: nn.Module, peer: int, round: int) -> None:
        train(network, peer, round)
        if (peer, round) == (2, 2):
            with torch.no_grad():
                network.get_parameter("0.weight").fill_(weight)

    found = run(blow_up, rule="average")
    assert [by_peer[2] is None for by_peer in found.scores] == [False, True, False]
    assert [set(shares) for shares in found.shares] == [{1, 2}, set(), {1, 2}]
    assert all(value.isfinite().all() for state in states(found) for value in state.values())


def test_large_weights_are_nobodys_trouble_where_nothing_is_exchanged() -> None:
    def blow_up(network: nn.Module, peer: int, round: int) -> None:
        train(network, peer, round)
        if (peer, round) == (2, 2):
            with torch.no_grad():
                network.get_parameter("0.weight").fill_(1e6)

    found = run(blow_up, rule="none")
    assert all(None not in by_peer.values() for by_peer in found.scores)


def test_nobody_left_is_an_error() -> None:
    def blow_up(network: nn.Module, peer: int, round: int) -> None:
        with torch.no_grad():
            network.get_parameter("0.weight").fill_(math.inf)

    with pytest.raises(
        PeercollabError, match="round 1: the weights of all peers became NaN, infinite or huge"
    ):
        run(blow_up)


def test_the_best_state_is_kept_and_not_the_last() -> None:
    def spoil(network: nn.Module, peer: int, round: int) -> None:
        train(network, peer, round)
        if round == 3:
            with torch.no_grad():
                network.get_parameter("3.bias").add_(100)

    found = run(spoil)
    assert found.best[1] < 3
    assert score(found.network) == found.best[2]
    assert not found.network.training


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rule": "layerwise"}, "--rule is 'layerwise'"),
        ({"moments": "reset"}, "moments is no option here"),
        ({"exchange_every": 3}, "exchange_every is no option here"),
        ({"peers": 0}, "peers is 0"),
        ({"rul": "average"}, "rul is no option here"),
        ({"address": "auto"}, "--address has no effect"),
        ({"rounds": 0}, "rounds is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"executor": "rai"}, "executor is 'rai': take ray or local"),
        ({"layers": "embedding"}, "--layers embedding names no layer"),
    ],
)
def test_what_has_no_effect_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PeercollabError) as caught:
        run(**options)
    assert said in str(caught.value)


def test_networks_that_differ_are_refused() -> None:
    def unlike(peer: int) -> nn.Module:
        return nn.Linear(3, peer)

    with pytest.raises(PeercollabError, match="peer 1 and peer 2 differ in their layers"):
        collaborate(unlike, train, score)


def test_what_needs_gradients_is_refused_before_anybody_trains() -> None:
    def never(network: nn.Module, peer: int, round: int) -> None:
        raise AssertionError

    with pytest.raises(PeercollabError, match="criterion importance needs the gradients"):
        run(never, criterion="importance", exchange_from=0.5)


def test_makers_that_give_no_network_or_one_for_all_are_refused() -> None:
    network = make(1)
    with pytest.raises(PeercollabError, match="make gave the same network to two peers"):
        collaborate(lambda peer: network, train, score)
    with pytest.raises(PeercollabError, match="make gave int: it must make a torch"):
        collaborate(lambda peer: peer, train, score)  # type: ignore[arg-type, return-value]


def test_threads_are_as_before_also_where_a_maker_fails() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(rounds=1, threads_per_peer=1)
        assert torch.get_num_threads() == 2
        with pytest.raises(PeercollabError):
            run(layers="embedding", threads_per_peer=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_random_numbers_are_each_peers_and_rounds_own_and_of_scoring_the_same() -> None:
    drawn: list[float] = []
    scored: list[float] = []

    def note(network: nn.Module, peer: int, round: int) -> None:
        drawn.append(float(torch.rand(())))

    def at_random(network: nn.Module) -> float:
        scored.append(float(torch.rand(())))
        return scored[-1]

    before = torch.get_rng_state()
    collaborate(make, note, at_random, rounds=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(drawn)) == 6
    assert len(set(scored)) == 1


@pytest.mark.parametrize("rule", ["papa", "diloco", "none"])
def test_a_round_is_scored_once_and_last_as_it_ends(rule: str) -> None:
    found = run(rule=rule)
    assert len(found.scores) == 3
    assert found.scores[-1] == {
        peer: score(network) for peer, network in enumerate(found.networks, start=1)
    }


def test_a_peer_that_blows_up_goes_back_to_the_round_before() -> None:
    begun: dict[tuple[int, int], dict[str, torch.Tensor]] = {}

    def blow_up(network: nn.Module, peer: int, round: int) -> None:
        begun[peer, round] = {name: v.clone() for name, v in network.state_dict().items()}
        train(network, peer, round)
        if (peer, round) == (2, 3):
            with torch.no_grad():
                network.get_parameter("0.weight").fill_(math.nan)

    found = run(blow_up, rule="average")
    expected = begun[2, 3]
    assert all(torch.equal(v, expected[name]) for name, v in states(found)[1].items())


def test_what_is_exchanged_is_drawn_anew_in_each_round() -> None:
    taken: list[torch.Tensor] = []

    def fill(network: nn.Module, peer: int, round: int) -> None:
        weight = network.get_parameter("0.weight")
        if peer == 1 and round > 1:
            taken.append(weight.detach() != 1)
        with torch.no_grad():
            weight.fill_(peer)

    collaborate(
        lambda peer: nn.Sequential(nn.Linear(100, 100)), fill, lambda _: 1.0, rounds=3, rule="wash"
    )
    assert all(changed.any() for changed in taken)
    assert not torch.equal(*taken)
