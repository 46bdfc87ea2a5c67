"""What an exchange does to real peers: weights and moments, lost peers, tied tensors, own files."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from peercollab.actors.coordinator import Coordinator
from peercollab.actors.executor import LocalExecutor
from peercollab.actors.group import LocalPeers
from peercollab.actors.messages import PeerProgress, PeerSetup, SharedSetup
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.peer import Peer
from peercollab.data.sequences import Histories
from peercollab.models.build import build_model
from peercollab.models.model import SequenceModel
from peercollab.models.sasrec import SASRec, SASRecOptions
from peercollab.transplant.alignment import permute
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.grafting import Graft
from peercollab.transplant.options import RULES, TransplantOptions
from peercollab.transplant.plan import TransplantPlan
from peercollab.transplant.rules.average import Average
from peercollab.transplant.rules.own_rule import OwnRule
from peercollab.transplant.rules.rule import Intake, Memory, make_plan
from peercollab.transplant.rules.sparta import Sparta
from tests.models.common import random_orders

MakeShared = Callable[..., SharedSetup]

# Of each parameter its weight, then its moments where it has been trained.
Held = dict[str, tuple[Tensor, ...]]

CPU = torch.device("cpu")
WITH_DONORS = [
    name
    for name, kind in RULES.items()
    if kind is not OwnRule and kind.exchanges and kind.has_donors
]


def peers_of(shared: SharedSetup, histories: Histories, rates: Sequence[float]) -> list[Peer]:
    """A peer for each learning rate."""
    return [
        Peer(PeerSetup(number, number, rate), shared, histories, CPU)
        for number, rate in enumerate(rates, start=1)
    ]


def coordinator_of(peers: LocalPeers, shared: SharedSetup) -> Coordinator:
    return Coordinator(peers, shared.transplant, shared.training)


def state_of(peer: Peer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in peer.trainer.model.state_dict().items()}


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def finite(peer: Peer) -> bool:
    return all(bool(value.isfinite().all()) for value in state_of(peer).values())


def held(peer: Peer) -> Held:
    """A copy of a peer's parameters with their moments."""
    moments = peer.trainer.moments()
    return {
        name: tuple(part.detach().clone() for part in (weight, *moments.get(name, ())))
        for name, weight in peer.trainer.model.named_parameters()
    }


class Watched(LocalPeers):
    """Peers whose exchanges are kept: the plan, and what all held before and after."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        super().__init__(peers)
        self.seen: list[tuple[TransplantPlan, list[Held], list[Held]]] = []

    def transplant(self, plan: TransplantPlan) -> list[Graft]:
        before = [held(peer) for peer in self.peers]
        grafts = super().transplant(plan)
        self.seen.append((plan, before, [held(peer) for peer in self.peers]))
        return grafts


def permuted_twins(shared: SharedSetup, histories: Histories) -> list[Peer]:
    """Two trained peers: the second is the first with its units, and their moments, shuffled."""
    peers = peers_of(shared, histories, [1e-3, 1e-3])
    for peer in peers:
        peer.train(1, peer.steps())
    first, second = peers
    symmetries = list(first.trainer.model.symmetries())
    orders = random_orders(symmetries, np.random.default_rng(4))
    second.trainer.model.load_state_dict(permute(state_of(first), symmetries, orders))
    for which in range(2):
        moments = {name: parts[which] for name, parts in first.trainer.moments().items()}
        for name, value in permute(moments, symmetries, orders).items():
            second.trainer.moments()[name][which].copy_(value)
    return peers


@pytest.mark.parametrize("align", [True, False])
def test_a_donor_with_the_same_units_in_another_order_changes_nothing_if_aligned(
    align: bool, make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule="average", align=align, moments="transplant"))
    peers = Watched(permuted_twins(shared, histories))
    layers = peers.layers()[0]
    occasion = Exchange(1, peers.steps())
    peers.transplant(make_plan(occasion, shared.transplant.rule, layers, {0: {}, 1: {}}))
    ((_, before, after),) = peers.seen
    for own, new in zip(before, after, strict=True):
        for name, parts in own.items():
            for old, now in zip(parts, new[name], strict=True):
                # The output's bias has an entry for each item, and none for a unit.
                same = align or name == "output.bias"
                assert torch.allclose(now, old, rtol=1e-5, atol=1e-30) == same


@pytest.mark.parametrize(
    "options",
    [
        TransplantOptions(rule="sparta", exchange_every="epoch", share=0.3, moments="transplant"),
        TransplantOptions(rule="diloco", moments="transplant"),
    ],
    ids=["sparta", "diloco"],
)
def test_both_moments_are_averaged_where_weights_are_exchanged_and_nowhere_else(
    options: TransplantOptions, make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(options)
    rule = shared.transplant.rule
    peers = Watched(peers_of(shared, histories, [1e-3, 2e-3]))
    coordinator_of(peers, shared).run_round(1)
    ((plan, before, after),) = peers.seen
    names = [name for layer in peers.layers()[0].values() for name in layer.tensors]
    exchanged = {name: torch.ones_like(before[0][name][0], dtype=torch.bool) for name in names}
    if isinstance(rule, Sparta):
        ordered = {name: before[0][name] for name in names}
        for name, positions in rule.positions(plan.exchange, ordered).items():
            exchanged[name].fill_(False).view(-1)[torch.from_numpy(positions)] = True
        assert (
            0
            < sum(int(mask.sum()) for mask in exchanged.values())
            < sum(mask.numel() for mask in exchanged.values())
        )
    for name, mask in exchanged.items():
        # Sparta's weights are averaged, too; DiLoCo's go on beyond their mean.
        first = 0 if isinstance(rule, Sparta) else 1
        for part in range(first, 3):
            one, other = (state[name][part] for state in before)
            for own, new in zip(before, after, strict=True):
                moved = new[name][part]
                torch.testing.assert_close(
                    moved[mask], ((one + other) / 2)[mask], rtol=1e-6, atol=1e-30
                )
                assert torch.equal(moved[~mask], own[name][part][~mask])
    for part in (1, 2):
        assert any(not torch.equal(before[0][n][part], before[1][n][part]) for n in names)


def test_the_record_tells_how_alike_peers_were_before_the_rounds_first_exchange(
    make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule="average", exchange_every=2))
    peers = Watched(peers_of(shared, histories, [1e-3, 2e-3]))
    coordinator = coordinator_of(peers, shared)
    for round in (1, 2):
        peers.seen.clear()
        record = coordinator.run_round(round).as_json()
        assert len(peers.seen) > 1
        _, (one, other), _ = peers.seen[0]
        for transfer in record["transfers"]:
            assert transfer["similarity"].keys() == transfer["shares"].keys()
            for layer, told in transfer["similarity"].items():
                weight = peers.layers()[0][layer].weight
                first, second = (
                    state[weight][0].double().numpy().ravel() for state in (one, other)
                )
                length = np.linalg.norm(first) * np.linalg.norm(second)
                assert told == pytest.approx(first @ second / length, abs=1e-5)


def test_how_alike_peers_are_is_not_told_by_entries_that_travel_alone(
    make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule="wash", share=0.2, exchange_every="epoch"))
    record = coordinator_of(LocalPeers(peers_of(shared, histories, [1e-3, 2e-3])), shared)
    transfers = record.run_round(1).as_json()["transfers"]
    assert transfers
    assert all(transfer["similarity"] == {} for transfer in transfers)


@dataclass(frozen=True, kw_only=True)
class Blast(Average):
    """Averages, and in the second round leaves infinite weights in the first peer."""

    def take(self, intake: Intake, memory: Memory) -> Mapping[str, float]:
        measured = super().take(intake, memory)
        if intake.me == 0 and intake.plan.exchange.round == 2:
            intake.own["output.bias"][0].fill_(math.inf)
        return measured


def test_a_peer_that_an_exchange_made_infinite_goes_back_to_the_state_before_that_round(
    make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule="average"), epochs=4)
    shared = replace(shared, transplant=replace(shared.transplant, rule=Blast()))
    peers = LocalPeers(peers_of(shared, histories, [1e-3, 2e-3]))
    coordinator = coordinator_of(peers, shared)
    coordinator.run_round(1)
    good = state_of(peers.peers[0])
    assert coordinator.run_round(2).troubles == {}
    assert not finite(peers.peers[0])
    record = coordinator.run_round(3)
    assert list(record.troubles) == [0]
    assert "at the start of epoch 3" in record.troubles[0].reason
    assert record.bytes_moved == 0
    assert equal(good, state_of(peers.peers[0]))
    assert coordinator.run_round(4).troubles == {}
    assert all(map(finite, peers.peers))
    assert not equal(good, state_of(peers.peers[0]))


def no_watch(progress: Sequence[PeerProgress]) -> None:
    pass


@pytest.mark.usefixtures("ray_cluster")
def test_a_rule_from_a_file_comes_to_the_same_bytes_on_actors_that_cannot_see_the_file(
    make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories, tmp_path: Path
) -> None:
    from peercollab.actors.ray_executor import RayExecutor

    path = tmp_path / "larger.py"
    path.write_text(
        "import torch\n\n\ndef larger(own, donor, keep):\n"
        "    return torch.where(own.abs() >= donor.abs(), own, donor) * (1 - keep / 100)\n",
        encoding="utf-8",
    )
    shared = make_shared(TransplantOptions(rule=f"{path}:larger"))
    path.unlink()
    outcomes: list[tuple[list[Any], list[bytes]]] = []
    for make in (LocalExecutor, RayExecutor):
        with make(ExecutionOptions(), two_peers, shared, histories) as executor:
            records = [executor.run_round(round, no_watch) for round in (1, 2)]
            weights = [executor.weights(peer) for peer in range(2)]
        outcomes.append(
            (
                [(record.shares, record.bytes_moved, record.best) for record in records],
                [array.tobytes() for arrays in weights for array in arrays.values()],
            )
        )
    here, there = outcomes
    assert here == there
    assert all(moved for _, moved, _ in here[0])


@pytest.mark.parametrize("rule", WITH_DONORS)
def test_a_peer_that_is_left_alone_goes_on_and_nothing_travels(
    rule: str, make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule=rule))
    peers = peers_of(shared, histories, [1e-3, math.inf, math.inf])
    coordinator = coordinator_of(LocalPeers(peers), shared)
    for round in (1, 2):
        record = coordinator.run_round(round)
        assert sorted(record.troubles) == [1, 2]
        assert (record.exchanges, record.bytes_moved) == (0, 0)
        assert record.as_json()["transfers"] == []
        assert record.best is not None
        assert record.best.peer == 1
    apart = make_shared(TransplantOptions(rule="none"), init=shared.training.init)
    (alone,) = peers_of(apart, histories, [1e-3])
    for round in (1, 2):
        alone.train(round, alone.steps())
    assert equal(state_of(peers[0]), state_of(alone))


@pytest.mark.parametrize("lost", ["before training", "while training"])
@pytest.mark.parametrize("rule", ["layer-wise", "average", "papa", "diloco"])
def test_a_peer_lost_in_a_round_without_validation_gives_nothing_and_goes_back(
    rule: str, lost: str, make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule=rule), epochs=4, validate_every=2)
    peers = peers_of(shared, histories, [1e-3, 2e-3, 3e-3])
    coordinator = coordinator_of(LocalPeers(peers), shared)
    for round in (1, 2):
        assert coordinator.run_round(round).troubles == {}
    good = state_of(peers[1])
    if lost == "before training":
        with torch.no_grad():
            peers[1].trainer.model.get_parameter("output.bias")[3] = math.nan
    else:
        peers[1].trainer.learning_rate = math.inf
    record = coordinator.run_round(3)
    peers[1].trainer.learning_rate = 2e-3
    assert list(record.troubles) == [1]
    assert [report.validation for report in record.peers] == [None] * 3
    assert [report.loss is None for report in record.peers] == [False, True, False]
    assert all(donor != 1 for _, donor in record.shares)
    assert all(map(finite, peers))
    assert equal(good, state_of(peers[1]))
    record = coordinator.run_round(4)
    assert record.troubles == {}
    assert all(report.validation is not None for report in record.peers)


def build_tied(n_items: int, options: SASRecOptions, seed: int, n_users: int) -> SequenceModel:
    model = build_model(n_items, options, seed)
    assert isinstance(model, SASRec)
    assert model.output is not None
    model.output.weight = model.item_embedding.weight
    model.shared_layers = ("output",)
    return model


def test_a_tied_tensor_travels_and_is_mixed_once(
    make_shared: MakeShared, histories: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peercollab.training.trainer.build_model", build_tied)
    shared = make_shared(
        TransplantOptions(rule="average", moments="transplant"), epochs=2, validate_every=2
    )
    peers = Watched(peers_of(shared, histories, [1e-3, 2e-3]))
    record = coordinator_of(peers, shared).run_round(1)
    ((_, before, after),) = peers.seen
    assert "item_embedding.weight" in before[0]
    assert "output.weight" not in before[0]
    for name in before[0]:
        for one, other, *new in zip(*(state[name] for state in (*before, *after)), strict=True):
            assert not torch.equal(one, other)
            for now in new:
                torch.testing.assert_close(now, (one + other) / 2, rtol=1e-6, atol=1e-30)
    entries = sum(weight.numel() for weight, *_ in before[0].values())
    assert record.bytes_moved == 2 * 3 * 4 * entries
    for peer in peers.peers:
        state = peer.trainer.model.state_dict()
        assert state["output.weight"].data_ptr() == state["item_embedding.weight"].data_ptr()
