"""What each rule does to a group of peers, against its formula in plain numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from peercollab.transplant.donors import Donors
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.plan import TransplantPlan
from peercollab.transplant.rules.average import Average
from peercollab.transplant.rules.diloco import DiLoCo
from peercollab.transplant.rules.layer_wise import LayerWise
from peercollab.transplant.rules.noise import Noise
from peercollab.transplant.rules.none import NoExchange
from peercollab.transplant.rules.papa import Papa
from peercollab.transplant.rules.parameter_wise import ParameterWise
from peercollab.transplant.rules.rule import Intake, Rule
from peercollab.transplant.rules.sparta import Sparta
from peercollab.transplant.rules.wash import Wash

Peers = list[dict[str, Tensor]]
MakePeers = Callable[[int], Peers]
Run = Callable[..., Peers]

GROUPS = (2, 3, 4, 8)
DONORS: tuple[Donors, ...] = ("ring", "best", "random", "mean")


def same(one: Peers, other: Peers) -> bool:
    return all(
        torch.equal(tensors[name], others[name])
        for tensors, others in zip(one, other, strict=True)
        for name in tensors
    )


def stacked(peers: Peers, name: str) -> np.ndarray:
    return np.stack([tensors[name].numpy() for tensors in peers])


@pytest.mark.parametrize("n_peers", GROUPS)
@pytest.mark.parametrize("donors", DONORS)
def test_layer_wise_with_steepness_zero_equals_the_average(
    n_peers: int, donors: Donors, make_peers: MakePeers, exchange: Run
) -> None:
    peers = make_peers(n_peers)
    level = exchange(LayerWise(steepness=0, donors=donors), peers)
    assert same(level, exchange(Average(donors=donors), peers))
    assert not same(level, peers)


@pytest.mark.parametrize("n_peers", GROUPS)
def test_papa_with_factor_one_equals_none(
    n_peers: int, make_peers: MakePeers, exchange: Run
) -> None:
    peers = make_peers(n_peers)
    assert same(exchange(Papa(factor=1), peers), exchange(NoExchange(), peers))
    assert same(exchange(NoExchange(), peers), peers)


@pytest.mark.parametrize("n_peers", GROUPS)
@pytest.mark.parametrize("donors", DONORS)
def test_parameter_wise_takes_nothing_or_every_weight_of_two_dimensions(
    n_peers: int, donors: Donors, make_peers: MakePeers, exchange: Run
) -> None:
    peers = make_peers(n_peers)
    assert same(exchange(ParameterWise(percent=0, donors=donors), peers), peers)
    after = exchange(ParameterWise(percent=100, donors=donors), peers)
    for own, new in zip(peers, after, strict=True):
        for name, tensor in own.items():
            taken = not (new[name] == tensor).any()
            assert taken if tensor.ndim >= 2 else torch.equal(new[name], tensor)


@pytest.mark.parametrize("n_peers", GROUPS)
def test_papa_pulls_towards_the_mean_of_all(
    n_peers: int, make_peers: MakePeers, exchange: Run
) -> None:
    peers = make_peers(n_peers)
    after = exchange(Papa(factor=0.9), peers, Exchange(1, 1, 0, pull=0.5))
    for name in peers[0]:
        before = stacked(peers, name).astype(np.float64)
        expected = 0.95 * before + 0.05 * before.mean(axis=0)
        np.testing.assert_allclose(stacked(after, name), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_peers", GROUPS)
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_wash_moves_values_from_peer_to_peer_and_loses_none(
    n_peers: int, share: float, make_peers: MakePeers, exchange: Run
) -> None:
    peers = make_peers(n_peers)
    after = exchange(Wash(share=share), peers)
    moved = 0
    for name in peers[0]:
        before, now = stacked(peers, name), stacked(after, name)
        np.testing.assert_array_equal(np.sort(now, axis=0), np.sort(before, axis=0))
        moved += int((before != now).any(axis=0).sum())
    total = sum(tensor.numel() for tensor in peers[0].values())
    # Of all permutations of N peers one in N! moves nothing.
    assert 0 < moved <= max(1, round(share * total))
    if share == 1.0:
        assert moved > 0.4 * total


@pytest.mark.parametrize("n_peers", GROUPS)
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_sparta_averages_a_share_of_the_positions(
    n_peers: int, share: float, make_peers: MakePeers, exchange: Run
) -> None:
    peers = make_peers(n_peers)
    after = exchange(Sparta(share=share), peers)
    averaged = 0
    for name in peers[0]:
        before, now = stacked(peers, name), stacked(after, name)
        changed = (before != now).any(axis=0)
        averaged += int(changed.sum())
        mean = before.astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(now[:, changed], np.stack([mean[changed]] * n_peers), atol=1e-6)
        assert (now[:, changed] == now[0, changed]).all()
    assert averaged == max(1, round(share * sum(tensor.numel() for tensor in peers[0].values())))


@pytest.mark.parametrize("rule", [Wash(share=0.1), Sparta(share=0.1)], ids=lambda r: r.name)
def test_positions_are_drawn_anew_at_each_exchange(
    rule: Rule, make_peers: MakePeers, exchange: Run
) -> None:
    peers = make_peers(3)
    first, again, other = (exchange(rule, peers, Exchange(1, 1, draw)) for draw in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("n_peers", GROUPS)
def test_diloco_takes_torchs_own_nesterov_steps(
    n_peers: int, make_peers: MakePeers, exchange: Run
) -> None:
    start = make_peers(1)[0]
    rule = DiLoCo(outer_lr=0.6, outer_momentum=0.8)
    begun = {name: (tensor,) for name, tensor in start.items()}
    memories = {peer: rule.begin(begun) for peer in range(n_peers)}
    outer = {name: tensor.clone().double().requires_grad_() for name, tensor in start.items()}
    oracle = torch.optim.SGD(outer.values(), lr=0.6, momentum=0.8, nesterov=True)
    peers = [{name: tensor.clone() for name, tensor in start.items()} for _ in range(n_peers)]
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for tensors in peers:
            for tensor in tensors.values():
                tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
        for name, weight in outer.items():
            mean = torch.stack([tensors[name] for tensors in peers]).double().mean(dim=0)
            weight.grad = weight.detach() - mean
        oracle.step()
        peers = exchange(rule, peers, memories=memories)
        for tensors in peers:
            assert same([tensors], [peers[0]])
            for name, weight in outer.items():
                np.testing.assert_allclose(tensors[name], weight.detach(), atol=1e-5)


def test_a_peer_that_sat_out_of_diloco_goes_on_from_where_the_others_are(
    make_peers: MakePeers, exchange: Run
) -> None:
    start = make_peers(1)[0]
    rule = DiLoCo()
    begun = {name: (tensor,) for name, tensor in start.items()}
    memories = {peer: rule.begin(begun) for peer in range(3)}
    peers = [{name: tensor + i for name, tensor in start.items()} for i in range(3)]
    after = exchange(rule, peers, memories=memories, absent=(1,))
    assert same([after[1]], [peers[1]])
    assert not same([after[0]], [peers[0]])
    assert same([after[0]], [after[2]])
    together = exchange(rule, after, memories=memories)
    assert same([together[0]], [together[1]])
    assert same([together[0]], [together[2]])


@pytest.mark.parametrize("percent", [0.0, 25.0, 50.0, 99.5, 100.0])
def test_noise_is_added_to_what_lies_below_the_percentile(
    percent: float, make_peers: MakePeers, exchange: Run
) -> None:
    (own,) = make_peers(1)
    (after,) = exchange(Noise(percent=percent), [own])
    for name, tensor in own.items():
        changed = (after[name] != tensor).numpy()
        magnitude = np.abs(tensor.numpy().astype(np.float64))
        expected = magnitude < np.percentile(magnitude, percent)
        np.testing.assert_array_equal(changed, expected if tensor.ndim >= 2 else False)


def test_noise_has_the_published_deviation_and_is_each_peers_own(
    make_peers: MakePeers, exchange: Run
) -> None:
    rule = Noise()
    assert [rule.deviation(round) for round in (1, 30, 31, 60, 61)] == pytest.approx(
        [0.05, 0.05, 0.05**2, 0.05**2, 0.05**3]
    )
    own = {**make_peers(1)[0], "items.weight": torch.randn(40, 8)}
    one, other = exchange(Noise(percent=100), [own, own])
    added = [tensors["items.weight"] - own["items.weight"] for tensors in (one, other)]
    for noise in added:
        assert 0.04 < float(noise.std()) < 0.06
        assert abs(float(noise.mean())) < 0.01
    assert not torch.equal(*added)
    later = exchange(Noise(percent=100), [own], Exchange(31, 1, 5))[0]["items.weight"]
    assert 0.04**2 < float((later - own["items.weight"]).std()) < 0.06**2


@pytest.mark.parametrize(
    "rule", [LayerWise(), Average(), ParameterWise()], ids=lambda rule: rule.name
)
@pytest.mark.parametrize("donors", DONORS)
def test_with_two_peers_all_donors_lead_to_the_same_bytes(
    rule: LayerWise, donors: Donors, make_peers: MakePeers, exchange: Run
) -> None:
    peers = make_peers(2)
    assert same(exchange(type(rule)(donors=donors), peers), exchange(rule, peers))


def test_a_mixture_of_donors_is_their_weighted_mean(make_peers: MakePeers, exchange: Run) -> None:
    peers = make_peers(3)
    after = exchange(Average(donors="mean", criterion="l1-norm"), peers)
    norms = [float(tensors["items.weight"].double().abs().sum()) for tensors in peers]
    weights = np.array(norms[1:]) / sum(norms[1:])
    values = [tensors["items.weight"].double().numpy() for tensors in peers]
    expected = 0.5 * values[0] + 0.5 * (weights[0] * values[1] + weights[1] * values[2])
    np.testing.assert_allclose(after[0]["items.weight"], expected, atol=1e-6)


def test_diloco_averages_statistics_in_buffers_and_steps_beyond_no_mean() -> None:
    rule = DiLoCo()
    variances = [torch.full((4,), value) for value in (0.1, 0.3)]
    begun = rule.begin({"norm.running_var": (torch.ones(4),)})
    own = {"norm.running_var": (variances[0],)}
    plan = TransplantPlan(Exchange(1, 1), (0, 1), (0,))
    given = {1: {"norm.running_var": (variances[1],)}}
    rule.take(Intake(0, plan, own, given, {}, frozenset({"norm.running_var"})), begun)
    # A Nesterov step from 1 towards 0.2 would end below 0.
    torch.testing.assert_close(variances[0], torch.full((4,), 0.2))
