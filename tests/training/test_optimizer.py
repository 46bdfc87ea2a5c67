"""Adam of dense and sparse gradients against torch's own optimizers."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from peercollab.training.optimizer import Adam

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


class Network(nn.Module):
    """A table of which few rows are read, and a layer."""

    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.table = nn.Embedding(20, 4, sparse=sparse)
        self.layer = nn.Linear(4, 3)

    def forward(self, rows_N: Tensor) -> Tensor:
        return self.layer(self.table(rows_N)).square().sum()


def trained(network: Network, optimizer: Adam, steps: int = 4) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        network(torch.tensor([step, 3, 7])).backward()
        optimizer.step()


def of(network: Network, *, sparse: bool, weight_decay: float = 0.0) -> Adam:
    rows = [network.table.weight] if sparse else []
    return Adam(network, rows, learning_rate=0.1, weight_decay=weight_decay)


@pytest.mark.parametrize("fused", [True, False])
def test_dense_gradients_get_torchs_adam(fused: bool) -> None:
    ours, theirs = Network(sparse=False), Network(sparse=False)
    trained(ours, of(ours, sparse=False, weight_decay=0.01))
    oracle = torch.optim.Adam(theirs.parameters(), lr=0.1, weight_decay=0.01, fused=fused)
    for step in range(4):
        oracle.zero_grad()
        theirs(torch.tensor([step, 3, 7])).backward()
        oracle.step()
    for own, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, its, **({"rtol": 0, "atol": 0} if fused else TOLERANCE))


TRAINING = """
import sys
import torch
from peercollab.training.optimizer import Adam

network = torch.nn.Sequential(torch.nn.Embedding(9, 4, sparse=True), torch.nn.Linear(4, 1))
optimizer = Adam(network, [network[0].weight], learning_rate=0.1, weight_decay=0.0)
for _ in range(2):
    network(torch.tensor([3, 7])).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""


def test_no_peer_loads_torchs_compiler_unasked() -> None:
    assert subprocess.run([sys.executable, "-c", TRAINING]).returncode == 0


def test_dense_weights_are_moved_by_the_fused_kernel() -> None:
    network = Network(sparse=False)
    optimizer = of(network, sparse=False)
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        trained(network, optimizer, steps=1)
    assert "aten::_fused_adam_" in {event.key for event in watched.key_averages()}


def test_sparse_gradients_move_the_rows_that_have_one() -> None:
    network = Network(sparse=True)
    before = copy.deepcopy(network)
    trained(network, of(network, sparse=True))
    moved = (network.table.weight != before.table.weight).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [0, 1, 2, 3, 7]
    assert (network.layer.weight != before.layer.weight).any()


def test_sparse_gradients_get_torchs_sparse_adam() -> None:
    ours, theirs = Network(sparse=True), Network(sparse=True)
    trained(ours, of(ours, sparse=True))
    oracles: tuple[torch.optim.Optimizer, ...] = (
        torch.optim.SparseAdam(theirs.table.parameters(), lr=0.1),
        torch.optim.Adam(theirs.layer.parameters(), lr=0.1, fused=True),
    )
    for step in range(4):
        theirs.zero_grad()
        theirs(torch.tensor([step, 3, 7])).backward()
        for oracle in oracles:
            oracle.step()
    for own, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(own, its)


def test_a_rate_is_that_of_all_parts() -> None:
    network = Network(sparse=True)
    optimizer = of(network, sparse=True)
    optimizer.learning_rate = 0.0
    before = copy.deepcopy(network)
    trained(network, optimizer)
    assert optimizer.learning_rate == 0.0
    assert torch.equal(network.table.weight, before.table.weight)
    assert torch.equal(network.layer.weight, before.layer.weight)


def test_forgetting_all_moments_begins_anew_and_forgetting_some_goes_on() -> None:
    for sparse in (False, True):
        network = Network(sparse=sparse)
        optimizer = of(network, sparse=sparse)
        weight = network.table.weight
        assert optimizer.moments(weight) == ()
        optimizer.forget(weight, torch.ones(20, 4, dtype=torch.bool))
        trained(network, optimizer)
        some = torch.zeros(20, 4, dtype=torch.bool)
        some[3] = True
        optimizer.forget(weight, some)
        for moment in optimizer.moments(weight):
            assert not moment[3].any()
            assert moment[7].any()
        fresh = copy.deepcopy(network)
        optimizer.forget(weight, ~torch.zeros_like(some))
        # The first step of a new Adam is as long as the rate, whatever the gradient.
        trained(network, optimizer, steps=1)
        step = (network.table.weight - fresh.table.weight)[[0, 3, 7]].abs()
        torch.testing.assert_close(step, torch.full((3, 4), 0.1), rtol=1e-3, atol=1e-4)


def test_a_state_is_gone_back_to() -> None:
    network = Network(sparse=True)
    optimizer = of(network, sparse=True)
    trained(network, optimizer)
    kept = copy.deepcopy((network.state_dict(), optimizer.state_dict()))
    trained(network, optimizer)
    after = copy.deepcopy(network.state_dict())
    network.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    trained(network, optimizer)
    assert all(torch.equal(after[name], value) for name, value in network.state_dict().items())
