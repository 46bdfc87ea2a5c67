"""The coordinator over peers that only say what was asked of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peercollab.actors.coordinator import AWAY, Coordinator
from peercollab.actors.messages import Best, PeerReport, Soup
from peercollab.errors import DivergedError, PeercollabError
from peercollab.results.checkpoint import Digests
from peercollab.training.options import TrainingOptions
from peercollab.transplant.grafting import Graft
from peercollab.transplant.layers import Layer, LayerMap
from peercollab.transplant.options import TransplantOptions
from peercollab.transplant.plan import LayerStatistics, TransplantPlan
from peercollab.transplant.rules.rule import Select

LAYERS = {
    "table": Layer("table", "embedding", {"table.weight": (7, 4)}),
    "output": Layer("output", "final", {"output.weight": (7, 4), "output.bias": (7,)}),
}
STEPS = 10
Script = Sequence[Sequence[float | None]]


class ScriptedPeers:
    """Peers whose validation values are written down, round by round; None where not due."""

    def __init__(
        self, script: Script, maps: Sequence[LayerMap], troubles: dict[int, set[int]] | None = None
    ) -> None:
        self.script = script
        self.maps = maps
        self.troubles = troubles or {}
        self.unrankable: dict[int, set[int]] = {}
        self.asked: list[object] = []
        self.plans: list[TransplantPlan] = []
        self.bytes_handled = 1000
        self.size = len(maps)
        self.present: Sequence[int] = range(self.size)
        self.last_rounds: dict[int, int] = {}

    def layers(self) -> dict[int, LayerMap]:
        return {peer: self.maps[peer] for peer in self.present}

    def steps(self) -> int:
        return STEPS

    def train(self, round: int, stop: int) -> dict[int, str | None]:
        self.asked.append(("train", stop))
        self.bytes_handled += 7
        ill = self.troubles.get(round, set())
        return {peer: "lost" if peer in ill else None for peer in self.present}

    def rank(self, round: int) -> dict[int, PeerReport]:
        self.asked.append("rank")
        ill = self.troubles.get(round, set()) | self.unrankable.get(round, set())
        return {
            peer: PeerReport(
                peer + 1,
                1.0,
                1e-3,
                10,
                None if value is None else {"ndcg@10": value},
                {},
                "lost" if peer in ill else None,
            )
            for peer, value in enumerate(self.script[round - 1])
            if peer in self.present
        }

    def save_best(self, peer: int) -> None:
        self.asked.append(("save", peer))

    def statistics(self, peers: Sequence[int], layers: Sequence[str]) -> list[LayerStatistics]:
        self.asked.append(("statistics", tuple(peers), tuple(layers)))
        self.bytes_handled += 5
        return [dict.fromkeys(layers, float(peer)) for peer in peers]

    def transplant(self, plan: TransplantPlan) -> list[Graft]:
        self.asked.append("transplant")
        self.plans.append(plan)
        return [Graft(bytes=100, measured={}) for _ in plan.receivers]

    def settle(self) -> None:
        self.asked.append("settle")

    def checkpoint(self, folder: Path) -> Digests:
        self.asked.append(("checkpoint", folder))
        return {}

    def restore(self, folder: Path) -> dict[int, int]:
        self.asked.append(("restore", folder))
        return {peer: self.last_rounds.get(peer, 1) for peer in self.present}

    def follow(self, peers: Sequence[int], folder: Path, leader: int) -> None:
        self.asked.append(("follow", tuple(peers), leader))

    def soup(self, select: Select) -> Soup:
        self.asked.append(("soup", select))
        return Soup([Best(1, 1, 0.1)], {"ndcg@10": 0.1})


def lead(peers: ScriptedPeers, epochs: int = 4, **options: Any) -> Coordinator:
    training = TrainingOptions(epochs=epochs)
    return Coordinator(peers, TransplantOptions(**options).build(), training)


def scripted(*script: Sequence[float | None]) -> tuple[ScriptedPeers, Coordinator]:
    peers = ScriptedPeers(script, [LAYERS] * len(script[0]))
    return peers, lead(peers)


def test_a_round_saves_the_ranked_state_before_it_measures_and_exchanges() -> None:
    peers, coordinator = scripted([0.1, 0.3])
    record = coordinator.run_round(1)
    measured = ("statistics", (0, 1), tuple(LAYERS))
    assert peers.asked == [
        ("train", STEPS), "rank", ("save", 1), measured, "transplant", "settle",
    ]  # fmt: skip
    assert record.best == Best(peer=2, round=1, value=0.3)
    assert record.exchanges == 1
    # What each peer answered is kept as its own.
    assert record.measured == {peer: [dict.fromkeys(LAYERS, float(peer))] for peer in (0, 1)}
    assert record.bytes_moved == 200
    assert record.coordinator_bytes == 12


def test_a_rule_of_steps_exchanges_inside_the_epoch_and_ranks_after_it() -> None:
    peers = ScriptedPeers([[0.1, 0.3]], [LAYERS] * 2)
    record = lead(peers, rule="papa", exchange_every=4).run_round(1)
    assert peers.asked == [
        ("train", 4), "transplant", ("train", 8), "transplant", ("train", 10), "rank", ("save", 1),
        "settle",
    ]  # fmt: skip
    assert record.exchanges == 2
    assert record.bytes_moved == 400
    assert [plan.exchange.step for plan in peers.plans] == [4, 8]


def test_diloco_ends_every_epoch_with_an_exchange_and_ranks_what_came_of_it() -> None:
    peers = ScriptedPeers([[0.1, 0.3]], [LAYERS] * 2)
    lead(peers, rule="diloco", exchange_every=6).run_round(1)
    assert peers.asked == [
        ("train", 6), "transplant", ("train", 10), "transplant", "rank", ("save", 1), "settle",
    ]  # fmt: skip


def test_outside_the_window_nothing_is_exchanged() -> None:
    peers = ScriptedPeers([[0.1, 0.3]] * 4, [LAYERS] * 2)
    coordinator = lead(peers, exchange_from=0.5, exchange_until=0.75)
    exchanged = [coordinator.run_round(round).exchanges for round in (1, 2, 3, 4)]
    assert exchanged == [0, 1, 1, 0]


def test_a_window_without_any_exchange_is_refused_before_training() -> None:
    peers = ScriptedPeers([[0.1, 0.3]], [LAYERS] * 2)
    with pytest.raises(PeercollabError, match="no exchange lies between"):
        lead(peers, exchange_from=0.1, exchange_until=0.2)


def test_every_exchange_has_a_draw_of_its_own_that_the_seed_decides() -> None:
    def draws(seed: int) -> list[int]:
        peers = ScriptedPeers([[0.1, 0.3]] * 2, [LAYERS] * 2)
        training = TrainingOptions(epochs=2, seed=seed)
        transplant = TransplantOptions(rule="wash", exchange_every=5).build()
        coordinator = Coordinator(peers, transplant, training)
        for round in (1, 2):
            coordinator.run_round(round)
        return [plan.exchange.draw for plan in peers.plans]

    assert len(set(draws(1))) == 4
    assert draws(1) == draws(1)
    assert not set(draws(1)) & set(draws(2))


def test_the_pull_follows_the_schedule() -> None:
    peers = ScriptedPeers([[0.1, 0.3]] * 2, [LAYERS] * 2)
    training = TrainingOptions(epochs=2, schedule="cosine")
    transplant = TransplantOptions(rule="papa", exchange_every=5).build()
    coordinator = Coordinator(peers, transplant, training)
    for round in (1, 2):
        coordinator.run_round(round)
    pulls = [plan.exchange.pull for plan in peers.plans]
    # The rate of the last step: numbers 4, 9, 14 and 19 of 20, from 0.
    assert pulls == pytest.approx([0.904508, 0.578217, 0.206107, 0.006156], abs=1e-6)


def test_a_peer_that_is_lost_sits_the_exchange_out_and_is_named() -> None:
    peers = ScriptedPeers([[0.1, None, 0.2]], [LAYERS] * 3, {1: {1}})
    record = lead(peers, rule="average", donors="best").run_round(1)
    (plan,) = peers.plans
    assert {(t.receiver, t.donor) for t in plan.transfers} == {(0, 2), (2, 0)}
    assert ("statistics", (0, 2), tuple(LAYERS)) in peers.asked
    assert record.as_json()["failures"] == [{"peer": 2, "step": STEPS, "reason": "lost"}]
    assert list(record.as_json()["statistics"]) == ["1", "3"]


def test_a_peer_that_cannot_be_ranked_does_not_exchange_either() -> None:
    peers = ScriptedPeers([[0.1, None, 0.2]], [LAYERS] * 3)
    peers.unrankable = {1: {1}}
    record = lead(peers, rule="average").run_round(1)
    (plan,) = peers.plans
    assert plan.peers == (0, 2)
    assert record.as_json()["failures"] == [{"peer": 2, "step": STEPS, "reason": "lost"}]


def test_peers_that_are_away_are_asked_nothing_and_the_others_make_a_smaller_ring() -> None:
    peers = ScriptedPeers([[0.1, 0.9, 0.2, 0.3]], [LAYERS] * 4)
    coordinator = lead(peers, rule="average", donors="ring")
    coordinator.restore(Path("checkpoint"), Best(2, 1, 0.25), present=[0, 2, 3])
    record = coordinator.run_round(1)
    (plan,) = peers.plans
    assert [(t.receiver, t.donor) for t in plan.transfers] == [(0, 3), (2, 0), (3, 2)]
    told = record.as_json()
    assert told["failures"] == [{"peer": 2, "step": 0, "reason": AWAY}]
    assert [report["peer"] for report in told["peers"]] == [1, 2, 3, 4]
    assert told["peers"][1]["validation"] is None
    assert told["best"] == {"peer": 4, "round": 1, "ndcg@10": 0.3}
    coordinator.restore(Path("checkpoint"), None, present=[0, 1, 2, 3])
    assert coordinator.run_round(1).best == Best(2, 1, 0.9)


def test_a_run_goes_on_while_one_peer_that_is_there_is_well() -> None:
    peers = ScriptedPeers([[0.1, 0.2, 0.3]], [LAYERS] * 3, {1: {0}})
    coordinator = lead(peers)
    coordinator.restore(Path("checkpoint"), None, present=[0, 1])
    assert set(coordinator.run_round(1).troubles) == {0, 2}
    coordinator.restore(Path("checkpoint"), None, present=[0])
    with pytest.raises(DivergedError, match="lost"):
        coordinator.run_round(1)


@pytest.mark.parametrize(("rule", "follows"), [("diloco", True), ("average", False)])
def test_who_was_away_follows_the_others_under_a_rule_that_remembers(
    rule: str, follows: bool
) -> None:
    peers = ScriptedPeers([[0.1, 0.2, 0.3]], [LAYERS] * 3)
    coordinator = lead(peers, rule=rule)
    peers.last_rounds = {0: 3, 1: 5, 2: 5}
    coordinator.restore(Path("checkpoint"), None, present=[0, 1, 2])
    assert (("follow", (0,), 1) in peers.asked) == follows
    peers.last_rounds = dict.fromkeys(range(3), 5)
    peers.asked.clear()
    coordinator.restore(Path("checkpoint"), None, present=[0, 1, 2])
    assert not any("follow" in asked for asked in peers.asked if isinstance(asked, tuple))


def test_a_run_ends_when_no_peer_is_left() -> None:
    peers = ScriptedPeers([[None, None]], [LAYERS] * 2, {1: {0, 1}})
    with pytest.raises(DivergedError, match="lost"):
        lead(peers).run_round(1)


def test_only_a_better_state_replaces_the_kept_one_and_the_first_of_equals_stays() -> None:
    peers, coordinator = scripted([0.3, 0.3], [0.3, 0.2], [0.1, 0.2], [0.4, 0.5])
    bests = [coordinator.run_round(round).best for round in (1, 2, 3, 4)]
    assert bests == [Best(1, 1, 0.3)] * 3 + [Best(2, 4, 0.5)]
    assert [asked for asked in peers.asked if isinstance(asked, tuple) and asked[0] == "save"] == [
        ("save", 0),
        ("save", 1),
    ]


def test_rounds_without_ranking_keep_nothing() -> None:
    peers, coordinator = scripted([None, None], [0.2, 0.1], [None, None])
    assert coordinator.run_round(1).best is None
    assert ("save", 0) not in peers.asked
    assert coordinator.run_round(2).best == Best(1, 2, 0.2)
    assert coordinator.run_round(3).best == Best(1, 2, 0.2)
    assert peers.asked.count(("save", 0)) == 1


@pytest.mark.parametrize("select", ["best", "uniform-soup", "greedy-soup"])
def test_a_run_ends_in_what_was_selected(select: Select) -> None:
    peers = ScriptedPeers([[0.1, 0.3]], [LAYERS] * 2)
    coordinator = lead(peers, select=select)
    assert coordinator.finish() is None
    coordinator.run_round(1)
    soup = coordinator.finish()
    assert (soup is None) == (select == "best")
    assert (("soup", select) in peers.asked) == (select != "best")


def test_peers_of_different_layers_are_refused_by_the_first_difference() -> None:
    other = {**LAYERS, "output": replace(LAYERS["output"], tensors={"output.weight": (7, 5)})}
    peers = ScriptedPeers([[0.1, 0.1]], [LAYERS, LAYERS, other])
    with pytest.raises(
        PeercollabError,
        match=r"peer 1 and peer 3 differ .* output.weight \(7, 4\).* output.weight \(7, 5\)",
    ):
        lead(peers)


def test_only_layers_of_the_scope_are_measured() -> None:
    peers = ScriptedPeers([[0.1, 0.1]], [LAYERS, LAYERS])
    record = lead(peers, layers="final", steepness=1.0).run_round(1)
    assert ("statistics", (0, 1), ("output",)) in peers.asked
    assert [list(t["shares"]) for t in record.as_json()["transfers"]] == [["output"]] * 2


def test_the_record_holds_the_mean_share_over_the_exchanges() -> None:
    peers = ScriptedPeers([[0.1, 0.3]], [LAYERS] * 2)
    training = TrainingOptions(epochs=1, schedule="cosine")
    transplant = TransplantOptions(rule="papa", factor=0.9, exchange_every=5).build()
    record = Coordinator(peers, transplant, training).run_round(1).as_json()
    shares = [0.1 * plan.exchange.pull / 2 for plan in peers.plans]
    assert record["exchanges"] == 2
    assert [(t["receiver"], t["donor"]) for t in record["transfers"]] == [(1, 2), (2, 1)]
    for transfer in record["transfers"]:
        assert transfer["shares"] == dict.fromkeys(LAYERS, pytest.approx(sum(shares) / 2))


def test_a_record_tells_means_over_the_exchanges_in_which_a_receiver_mixed() -> None:
    peers = ScriptedPeers([[0.1, 0.3, 0.2]], [LAYERS] * 3)
    coordinator = lead(peers, rule="average", exchange_every=4, donors="best")
    record = coordinator.run_round(1).as_json()
    assert record["exchanges"] == 2
    assert record["receivers"] == {"1": 2, "2": 2, "3": 2}
    assert record["layers"] == {"table": "embedding", "output": "final"}
    assert record["statistics"]["3"] == {"table": 2.0, "output": 2.0}
    # The third has the highest value; of the others it takes the second.
    assert record["transfers"] == [
        {
            "receiver": receiver,
            "donor": donor,
            "shares": {"table": 0.5, "output": 0.5},
            "similarity": {},
        }
        for receiver, donor in ((1, 3), (2, 3), (3, 2))
    ]


def test_a_peer_lost_on_the_way_has_its_step_and_the_others_their_own_means() -> None:
    class Losing(ScriptedPeers):
        def train(self, round: int, stop: int) -> dict[int, str | None]:
            super().train(round, stop)
            return {0: None, 1: "lost" if stop > 4 else None, 2: None}

    peers = Losing([[0.1, None, 0.2]], [LAYERS] * 3)
    record = lead(peers, rule="average", exchange_every=4).run_round(1).as_json()
    assert record["failures"] == [{"peer": 2, "step": 8, "reason": "lost"}]
    assert record["receivers"] == {"1": 2, "2": 1, "3": 2}
    shares = {(t["receiver"], t["donor"]): t["shares"]["table"] for t in record["transfers"]}
    # In the ring of three 2 gives to 3 and 1 to 2; in that of two 1 gives to 3.
    assert shares == {(1, 3): 0.5, (2, 1): 0.5, (3, 1): 0.25, (3, 2): 0.25}


def test_exchanges_in_which_nobody_mixed_are_not_counted() -> None:
    alone = ScriptedPeers([[0.1]], [LAYERS])
    assert lead(alone, rule="papa", exchange_every=2).run_round(1).as_json()["exchanges"] == 0
    noisy = ScriptedPeers([[0.1, 0.2]], [LAYERS] * 2)
    record = lead(noisy, rule="noise").run_round(1).as_json()
    assert record["receivers"] == {"1": 1, "2": 1}
    assert record["transfers"] == []


def test_models_whose_layers_are_in_another_order_are_refused() -> None:
    other = dict(reversed(LAYERS.items()))
    with pytest.raises(PeercollabError, match=r"peer 1 and peer 2 differ .* table .* output"):
        lead(ScriptedPeers([[0.1, 0.2]], [LAYERS, other]))
