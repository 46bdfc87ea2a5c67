"""An exchange among peers that are nothing but their tensors."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from peercollab.transplant.exchange import Exchange
from peercollab.transplant.layers import Layer, LayerMap
from peercollab.transplant.rules.rule import Intake, Memory, Rule, make_plan, travelling

# Peers' tensors by name, and what each remembers.
Peers = list[dict[str, Tensor]]

LAYERS: LayerMap = {
    "items": Layer("items", "embedding", {"items.weight": (40, 8)}),
    "linear": Layer("linear", "middle", {"linear.weight": (8, 8), "linear.bias": (8,)}),
    "norm": Layer("norm", "middle", {"norm.weight": (8,), "norm.bias": (8,)}),
}


@pytest.fixture
def make_peers() -> Callable[[int], Peers]:
    """Peers whose entries are all different, over all peers."""

    def make(n_peers: int) -> Peers:
        shapes = {name: shape for layer in LAYERS.values() for name, shape in layer.tensors.items()}
        total = sum(torch.Size(shape).numel() for shape in shapes.values())
        values = torch.randperm(n_peers * total, generator=torch.Generator().manual_seed(3))
        parts = iter((values / 1000 - 0.5).split(1))
        return [
            {
                name: torch.cat([next(parts) for _ in range(torch.Size(shape).numel())]).view(shape)
                for name, shape in shapes.items()
            }
            for _ in range(n_peers)
        ]

    return make


@pytest.fixture
def exchange() -> Callable[..., Peers]:
    """``exchange(rule, peers, occasion, memories=None)``: the peers afterwards."""

    def run(
        rule: Rule,
        peers: Peers,
        occasion: Exchange = Exchange(1, 1, 5),  # noqa: B008
        memories: Mapping[int, Memory] | None = None,
        absent: tuple[int, ...] = (),
    ) -> Peers:
        names = [name for layer in LAYERS.values() for name in travelling(layer, rule)]
        statistics = {
            peer: {
                layer.name: rule.measure.measure(tensors[layer.weight]) if rule.measure else 0.0
                for layer in LAYERS.values()
            }
            for peer, tensors in enumerate(peers)
            if peer not in absent
        }
        plan = make_plan(occasion, rule, LAYERS, statistics, absent)
        before = [{name: (tensors[name].clone(),) for name in tensors} for tensors in peers]
        parcels = {}
        for request in plan.requests():
            asked = [name for layer in request.layers for name in travelling(LAYERS[layer], rule)]
            own = {name: before[request.donor][name] for name in asked}
            parcels[request] = {n: tuple(b) for n, b in rule.give(own, request).items()}
        copies = {
            request: {name: bundle[0].clone() for name, bundle in parcel.items()}
            for request, parcel in parcels.items()
        }
        after = [{name: tensor.clone() for name, tensor in tensors.items()} for tensors in peers]
        for part in map(plan.of, plan.receivers):
            me = part.receivers[0]
            rule.take(
                Intake(
                    me,
                    part,
                    {name: (after[me][name],) for name in names},
                    {t.donor: parcels[plan.request(t)] for t in part.transfers},
                    {
                        t.donor: {
                            name: share
                            for layer, share in t.shares.items()
                            for name in travelling(LAYERS[layer], rule)
                        }
                        for t in part.transfers
                    },
                ),
                (memories or {}).get(me, {}),
            )
        for request, parcel in parcels.items():
            for name, bundle in parcel.items():
                assert torch.equal(bundle[0], copies[request][name]), "a snapshot was changed"
        return after

    return run
