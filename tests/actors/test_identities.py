"""Rules that come to the same, bytes that are the plan's, and statistics, among real peers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from peercollab.actors.group import LocalPeers
from peercollab.actors.messages import SharedSetup
from peercollab.actors.peer import Peer
from peercollab.data.sequences import Histories
from peercollab.models.options import GivenModel
from peercollab.transplant.grafting import Graft
from peercollab.transplant.layers import choose_layers
from peercollab.transplant.options import TransplantOptions
from peercollab.transplant.plan import TransplantPlan
from peercollab.transplant.rules.rule import travelling
from peercollab.transplant.rules.wash import Wash
from tests.actors.test_family import lead, local, outcome, same, setups

MakeShared = Callable[..., SharedSetup]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"steepness": 0.0}, {"rule": "average"}),
        ({"weighting": "arctan", "slope": 0.0}, {"rule": "average"}),
        ({"rule": "papa", "factor": 1.0, "exchange_every": "epoch"}, {"rule": "none"}),
        ({"rule": "parameter-wise", "percent": 0.0}, {"rule": "none"}),
        ({"donors": "best"}, {"donors": "ring"}),
        ({"donors": "random"}, {"donors": "ring"}),
        ({"donors": "mean"}, {"donors": "ring"}),
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_two_peers_come_to_the_same(
    one: dict[str, Any], other: dict[str, Any], make_shared: MakeShared, histories: Histories
) -> None:
    weights = []
    for options in (one, other):
        shared = make_shared(TransplantOptions(**options), epochs=2)
        weights.append(outcome(shared, histories, setups(2))[1])
    assert same(*weights)


class Noting(LocalPeers):
    """Peers in this process, and the plans that they carried out."""

    def __init__(self, peers: list[Peer]) -> None:
        super().__init__(peers)
        self.plans: list[TransplantPlan] = []

    def transplant(self, plan: TransplantPlan) -> list[Graft]:
        self.plans.append(plan)
        return super().transplant(plan)


@pytest.mark.parametrize("layers", [None, "final"])
@pytest.mark.parametrize(
    "options",
    [
        {"steepness": 30.0},
        # Where the sigmoid is 1 a layer does not travel.
        {"steepness": 1e6},
        {"rule": "parameter-wise"},
        {"rule": "average", "donors": "mean"},
        {"rule": "average", "donors": "best"},
        {"rule": "papa", "exchange_every": 3},
        {"rule": "diloco"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_bytes_that_move_are_those_that_the_plan_names(
    options: dict[str, Any], layers: Any, make_shared: MakeShared, histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(layers=layers, **options))
    peers = Noting(local(shared, histories, setups(3)))
    (record,), _ = lead(peers, shared, rounds=1)
    known = peers.peers[0].layers()
    tensors = {name: travelling(layer, shared.transplant.rule) for name, layer in known.items()}
    named = sum(
        4 * math.prod(known[layer].tensors[tensor])
        for plan in peers.plans
        for transfer in plan.transfers
        for layer in transfer.shares
        for tensor in tensors[layer]
    )
    assert record.bytes_moved == named
    taking_part = choose_layers(known, layers or "all")
    assert {name for plan in peers.plans for t in plan.transfers for name in t.shares} <= set(
        taking_part
    )
    everything = sum(math.prod(shape) for of in known.values() for shape in of.tensors.values())
    partial = layers == "final" or options.get("steepness") == 1e6
    assert (named < 3 * 4 * everything * len(peers.plans)) or not partial


@pytest.mark.parametrize("layers", [None, "final"])
def test_wash_moves_exactly_the_entries_that_change_places(
    layers: Any, make_shared: MakeShared, histories: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TransplantOptions(rule="wash", exchange_every="epoch", share=0.1, layers=layers)
    shared = make_shared(options)
    before: list[Mapping[str, Tensor]] = []
    taken = []
    take = Wash.take

    def noting(self: Wash, intake: Any, memory: Any) -> Any:
        own = {name: bundle[0].clone() for name, bundle in intake.own.items()}
        result = take(self, intake, memory)
        taken.append(
            sum(int((own[name] != bundle[0]).sum()) for name, bundle in intake.own.items())
        )
        before.append(own)
        return result

    monkeypatch.setattr(Wash, "take", noting)
    peers = LocalPeers(local(shared, histories, setups(3)))
    (record,), _ = lead(peers, shared, rounds=1)
    assert record.bytes_moved == 4 * sum(taken) > 0


class Normed(nn.Module):
    """The last item's vector, normed by statistics that are kept."""

    def __init__(self, n_items: int, affine: bool = True) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, 6)
        self.norm = nn.BatchNorm1d(6, affine=affine)
        self.output = nn.Linear(6, n_items)

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        states_BLD: Tensor = self.norm(self.items(items_BL).mT).mT
        return states_BLD

    def item_table(self) -> tuple[Tensor, Tensor]:
        return self.output.weight, self.output.bias


class PlainlyNormed(Normed):
    """The same without weights in the norm."""

    def __init__(self, n_items: int) -> None:
        super().__init__(n_items, affine=False)


MEAN, VARIANCE = "network.norm.running_mean", "network.norm.running_var"


def normed(shared: SharedSetup, network: type[Normed] = Normed) -> SharedSetup:
    return replace(shared, model=GivenModel(network, max_length=12).build())


def states(peers: list[Peer]) -> list[dict[str, Tensor]]:
    return [dict(peer.trainer.model.state_dict()) for peer in peers]


@pytest.mark.parametrize("network", [Normed, PlainlyNormed])
@pytest.mark.parametrize("rule", ["average", "diloco"])
def test_statistics_are_averaged_with_their_layer_also_where_weights_go_beyond(
    rule: str, network: type[Normed], make_shared: MakeShared, histories: Histories
) -> None:
    after = []
    for of in ("none", rule):
        shared = normed(make_shared(TransplantOptions(rule=of), init="shared"), network)
        peers = local(shared, histories, setups(2))
        lead(LocalPeers(peers), shared, rounds=1)
        after.append(states(peers))
    apart, mixed = after
    for name in (MEAN, VARIANCE):
        assert not torch.equal(apart[0][name], apart[1][name])
        for state in mixed:
            torch.testing.assert_close(state[name], (apart[0][name] + apart[1][name]) / 2)


@pytest.mark.parametrize(
    "options", [{}, {"criterion": "l2-norm"}, {"criterion": "importance"}], ids=str
)
def test_every_criterion_gives_statistics_without_weights_a_share(
    options: dict[str, Any], make_shared: MakeShared, histories: Histories
) -> None:
    shared = normed(make_shared(TransplantOptions(**options)), PlainlyNormed)
    (record,), _ = lead(LocalPeers(local(shared, histories, setups(2))), shared, rounds=1)
    shares = [transfer["shares"] for transfer in record.as_json()["transfers"]]
    assert sum(share["network.norm"] for share in shares) == pytest.approx(1)
    if options.get("criterion") == "importance":
        # There is no gradient that would tell which peer's are better.
        assert [share["network.norm"] for share in shares] == [0.5, 0.5]


class Frozen(Normed):
    """An embedding that is not trained."""

    def __init__(self, n_items: int) -> None:
        super().__init__(n_items)
        self.items.weight.requires_grad_(False)


def test_weights_that_are_not_trained_have_no_importance(
    make_shared: MakeShared, histories: Histories
) -> None:
    shared = normed(make_shared(TransplantOptions(criterion="importance")), Frozen)
    (record,), _ = lead(LocalPeers(local(shared, histories, setups(2))), shared, rounds=1)
    for transfer in record.as_json()["transfers"]:
        assert transfer["shares"]["network.items"] == 0.5


def test_statistics_that_are_not_finite_keep_a_peer_out(
    make_shared: MakeShared, histories: Histories
) -> None:
    shared = normed(make_shared(TransplantOptions(rule="average")))
    peers = local(shared, histories, setups(2))
    peers[1].trainer.model.state_dict()[VARIANCE].fill_(math.nan)
    (record,), _ = lead(LocalPeers(peers), shared, rounds=1)
    assert set(record.troubles) == {1}
    assert record.bytes_moved == 0
    assert all(state[VARIANCE].isfinite().all() for state in states(peers[:1]))
