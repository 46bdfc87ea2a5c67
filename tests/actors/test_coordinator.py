"""The coordinator over peers that only say what was asked of them."""

from collections.abc import Sequence

import pytest

from peercollab.actors.coordinator import Best, Coordinator
from peercollab.actors.peer import Graft, PeerReport
from peercollab.errors import PeercollabError
from peercollab.transplant.layers import Layer, LayerMap
from peercollab.transplant.options import TransplantOptions
from peercollab.transplant.plan import LayerStatistics, TransplantPlan

LAYERS = {
    "table": Layer("table", "embedding", {"table.weight": (7, 4)}),
    "output": Layer("output", "final", {"output.weight": (7, 4), "output.bias": (7,)}),
}


class ScriptedPeers:
    """Peers whose validation values are written down, round by round; None where not due."""

    def __init__(self, script: Sequence[Sequence[float | None]], maps: Sequence[LayerMap]) -> None:
        self.script = script
        self.maps = maps
        self.asked: list[object] = []
        self.bytes_handled = 1000

    def layers(self) -> list[LayerMap]:
        return list(self.maps)

    def train(self, round: int) -> list[PeerReport]:
        self.asked.append("train")
        self.bytes_handled += 7
        return [
            PeerReport(number, 1.0, 1e-3, 10, None if value is None else {"ndcg@10": value}, {})
            for number, value in enumerate(self.script[round - 1], start=1)
        ]

    def save_best(self, peer: int) -> None:
        self.asked.append(("save", peer))

    def statistics(self, layers: Sequence[str]) -> list[LayerStatistics]:
        self.asked.append(("statistics", tuple(layers)))
        self.bytes_handled += 5
        return [dict.fromkeys(layers, float(peer)) for peer in range(len(self.maps))]

    def transplant(self, plan: TransplantPlan) -> list[Graft]:
        self.asked.append("transplant")
        return [Graft(bytes=100, seconds=0.1) for _ in plan.transfers]


def scripted(*script: Sequence[float | None]) -> tuple[ScriptedPeers, Coordinator]:
    peers = ScriptedPeers(script, [LAYERS] * len(script[0]))
    return peers, Coordinator(peers, TransplantOptions())


def test_a_round_saves_the_ranked_state_before_it_measures_and_exchanges() -> None:
    peers, coordinator = scripted([0.1, 0.3])
    record = coordinator.run_round(1)
    assert peers.asked == ["train", ("save", 1), ("statistics", tuple(LAYERS)), "transplant"]
    assert record.best == Best(peer=2, round=1, value=0.3)
    assert record.bytes_moved == 200
    assert record.coordinator_bytes == 12


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


def test_peers_of_different_layers_are_refused() -> None:
    peers = ScriptedPeers([[0.1, 0.1]], [LAYERS, {"table": LAYERS["table"]}])
    with pytest.raises(PeercollabError, match="differ in their layers"):
        Coordinator(peers, TransplantOptions())


def test_only_layers_of_the_scope_are_measured() -> None:
    peers = ScriptedPeers([[0.1, 0.1]], [LAYERS, LAYERS])
    record = Coordinator(peers, TransplantOptions(layers="final")).run_round(1)
    assert ("statistics", ("output",)) in peers.asked
    assert [list(transfer.keep) for transfer in record.plan.transfers] == [["output"]] * 2
