"""Peers that exchange and are ranked by the mean of their last epochs' ends."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from peercollab.actors.group import LocalPeers
from peercollab.actors.messages import SharedSetup
from peercollab.actors.peer import Peer
from peercollab.data.sequences import Histories
from peercollab.models.saved import load_model
from peercollab.training.metrics import metrics_of
from peercollab.transplant.options import TransplantOptions
from tests.actors.test_peers_under_rules import (
    CPU,
    Blast,
    coordinator_of,
    equal,
    finite,
    peers_of,
    state_of,
)

MakeShared = Callable[..., SharedSetup]
State = dict[str, Tensor]
RATES = [1e-3, 2e-3]


class Ends(LocalPeers):
    """Peers whose weights at the ends of epochs are kept, as they are before an exchange there."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        super().__init__(peers)
        self.of: list[list[State]] = [[] for _ in peers]

    def train(self, round: int, stop: int) -> dict[int, str | None]:
        troubles = super().train(round, stop)
        if stop == self.steps():
            for place, peer in enumerate(self.peers):
                if troubles[place] is None:
                    self.of[place].append(state_of(peer))
        return troubles


def mean_of(states: Sequence[State]) -> State:
    means = {n: np.mean([state[n].double().numpy() for state in states], axis=0) for n in states[0]}
    return {name: torch.from_numpy(mean).float() for name, mean in means.items()}


def assert_near(state: State, expected: State) -> None:
    for name, value in state.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        TransplantOptions(rule="average"),
        TransplantOptions(rule="papa", exchange_every=3),
        TransplantOptions(rule="diloco"),
    ],
    ids=["before the exchange", "after exchanges on the way", "after the exchange"],
)
def test_each_peer_is_ranked_and_kept_by_the_mean_of_its_own_last_ends(
    options: TransplantOptions, make_shared: MakeShared, histories: Histories
) -> None:
    plain = make_shared(options, epochs=4)
    shared = make_shared(options, epochs=4, swa=2)
    peers, others = (Ends(peers_of(each, histories, RATES)) for each in (shared, plain))
    coordinator, other = coordinator_of(peers, shared), coordinator_of(others, plain)
    differ = False
    for round in range(1, 5):
        record, unaveraged = coordinator.run_round(round), other.run_round(round)
        assert record.exchanges == unaveraged.exchanges > 0
        for place, (peer, alike) in enumerate(zip(peers.peers, others.peers, strict=True)):
            assert equal(state_of(peer), state_of(alike))
            assert record.peers[place].loss == unaveraged.peers[place].loss
            ranked = {
                name: value.clone() for name, value in peer.trainer.ranked.state_dict().items()
            }
            assert_near(ranked, mean_of(peers.of[place][-2:]))
            of_mean = metrics_of(alike.trainer.rank_weights(ranked, "validation"))
            assert record.peers[place].validation == of_mean
            differ |= of_mean != unaveraged.peers[place].validation
        best = record.best
        assert best is not None
        if best.round == round:
            kept = dict(load_model(shared.best, CPU).state_dict())
            assert equal(kept, dict(peers.peers[best.peer - 1].trainer.ranked.state_dict()))
    assert differ


def test_a_peer_that_goes_back_takes_its_window_along(
    make_shared: MakeShared, histories: Histories
) -> None:
    """The second round ends in an exchange that leaves infinite weights: it does not count."""
    shared = make_shared(TransplantOptions(rule="average"), epochs=4, swa=3)
    shared = replace(shared, transplant=replace(shared.transplant, rule=Blast()))
    peers = Ends(peers_of(shared, histories, RATES))
    coordinator = coordinator_of(peers, shared)
    for round in (1, 2):
        assert coordinator.run_round(round).troubles == {}
    assert not finite(peers.peers[0])
    assert list(coordinator.run_round(3).troubles) == [0]
    (first, _), whole = peers.of
    assert equal(dict(peers.peers[0].trainer.ranked.state_dict()), first)
    assert coordinator.run_round(4).troubles == {}
    first, _, last = peers.of[0]
    assert_near(dict(peers.peers[0].trainer.ranked.state_dict()), mean_of([first, last]))
    assert_near(dict(peers.peers[1].trainer.ranked.state_dict()), mean_of(whole[-3:]))


def test_a_soup_is_made_of_the_means(make_shared: MakeShared, histories: Histories) -> None:
    options = TransplantOptions(rule="average", select="uniform-soup")
    shared = make_shared(options, epochs=2, swa=2)
    peers = Ends(peers_of(shared, histories, RATES))
    coordinator = coordinator_of(peers, shared)
    for round in (1, 2):
        coordinator.run_round(round)
    soup = coordinator.finish()
    assert soup is not None
    means = [mean_of(peers.of[best.peer - 1][: best.round]) for best in soup.ingredients]
    assert {best.round for best in soup.ingredients} == {2}
    assert_near(dict(load_model(shared.best, CPU).state_dict()), mean_of(means))
