"""Which clusters have room for the peers, and what is said of those that have not; without Ray."""

from collections.abc import Mapping, Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peercollab.actors import shortage
from peercollab.actors.feasibility import Demand, demand_of, peers_on
from peercollab.actors.options import ExecutionOptions
from peercollab.errors import PeercollabError

THREE = [{"CPU": 1.0}] * 3
TWO_GPUS = [{"CPU": 8.0, "GPU": 2.0}]


def demand(
    peers: int, nodes: Sequence[Mapping[str, float]], threads: int = 1, **options: object
) -> Demand:
    return demand_of(ExecutionOptions(peers=peers, **options), peers, threads, nodes)  # type: ignore[arg-type]


def test_peers_on_a_cpu_share_its_cores() -> None:
    assert demand(2, [{"CPU": 8}], threads=4).bundle == {"CPU": 4}
    assert demand(2, [{"CPU": 8}]).bundle == {"CPU": 1}
    assert demand(8, [{"CPU": 2}]).bundle == {"CPU": 0.25}
    assert demand(3, [{"CPU": 2}]).bundle == {"CPU": 0.666}


def test_no_peer_asks_for_more_than_a_node_has() -> None:
    """Three cores in all are one and a half for each of two peers, which none of three has."""
    assert demand(2, THREE, threads=2).bundle == {"CPU": 1}
    assert demand(4, [{"CPU": 3}, {"CPU": 3}], threads=2).bundle == {"CPU": 1.5}
    uneven = [{"CPU": 4}, {"CPU": 1}, {"CPU": 1}]
    assert demand(3, uneven, threads=2, placement="strict-spread").bundle == {"CPU": 1}


def test_peers_that_are_spread_ask_for_little_enough_to_be_on_many_nodes() -> None:
    uneven = [{"CPU": 4}, {"CPU": 1}, {"CPU": 1}]
    assert demand(3, uneven, threads=2, placement="pack").bundle == {"CPU": 1.333}
    assert demand(3, uneven, threads=2, placement="spread").bundle == {"CPU": 1}


def test_each_peer_has_a_gpu_where_there_are_gpus() -> None:
    assert demand(2, TWO_GPUS).bundle == {"CPU": 1, "GPU": 1}
    assert demand(2, TWO_GPUS, device="cpu").bundle == {"CPU": 1}
    assert demand(3, TWO_GPUS, gpus_per_peer=0.5).bundle == {"CPU": 1, "GPU": 0.5}
    assert demand(2, THREE, device="cuda").bundle == {"CPU": 1, "GPU": 1}


def test_peers_that_wait_ask_for_a_core_a_thread() -> None:
    assert demand(2, [{"CPU": 2}], threads=2, wait_for_resources=5).bundle == {"CPU": 2}


@pytest.mark.parametrize(
    ("bundle", "node", "peers"),
    [
        ({"CPU": 1}, {"CPU": 3.0}, 3),
        ({"CPU": 1, "GPU": 1}, {"CPU": 8, "GPU": 2}, 2),
        ({"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 2}, 1),
        ({"CPU": 1, "GPU": 1}, {"CPU": 8}, 0),
        ({"CPU": 1, "GPU": 2}, {"CPU": 8, "GPU": 3}, 1),
        ({"CPU": 0.1}, {"CPU": 1.0}, 10),
        ({"CPU": 1 / 3}, {"CPU": 1.0}, 3),
        # A share lies on one card.
        ({"CPU": 1, "GPU": 0.66}, {"CPU": 8, "GPU": 2}, 2),
        ({"CPU": 1, "GPU": 0.3}, {"CPU": 8, "GPU": 2}, 6),
    ],
)
def test_peers_on_a_node(bundle: dict[str, float], node: dict[str, float], peers: int) -> None:
    assert peers_on(node, bundle) == peers


@given(
    cores=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    gpus=st.lists(st.integers(0, 2), min_size=3, max_size=3),
    peers=st.integers(1, 4),
    strict=st.booleans(),
)
def test_room_is_what_trying_every_layout_finds(
    cores: list[int], gpus: list[int], peers: int, strict: bool
) -> None:
    nodes = [{"CPU": float(c), "GPU": float(g)} for c, g in zip(cores, gpus, strict=False)]
    options = ExecutionOptions(placement="strict-spread" if strict else "spread")
    asked = Demand(options, peers, 1, {"CPU": 1.0, "GPU": 1.0})

    def works(layout: tuple[int, ...]) -> bool:
        hosted = [layout.count(place) for place in range(len(nodes))]
        return all(
            number <= min(node["CPU"], node["GPU"]) and not (strict and number > 1)
            for number, node in zip(hosted, nodes, strict=True)
        )

    assert asked.fits(nodes) == any(
        works(layout) for layout in product(range(len(nodes)), repeat=peers)
    )


@given(
    cores=st.lists(st.sampled_from([0.5, 1, 2, 3, 8, 64]), min_size=1, max_size=5),
    peers=st.integers(1, 20),
    threads=st.integers(1, 8),
    placement=st.sampled_from(["pack", "spread"]),
)
def test_peers_without_gpus_always_fit_where_there_are_cores(
    cores: list[float], peers: int, threads: int, placement: str
) -> None:
    nodes = [{"CPU": float(core)} for core in cores]
    asked = demand(peers, nodes, threads, placement=placement)
    assert asked.fits(nodes)
    assert 0 < asked.bundle["CPU"] <= threads


@given(
    cores=st.lists(st.sampled_from([0, 1, 3]), min_size=1, max_size=3),
    gpus=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    peers=st.integers(1, 5),
    per_peer=st.sampled_from([0.3, 0.66, 1, 2]),
    strict=st.booleans(),
)
def test_every_remedy_helps(
    cores: list[int], gpus: list[int], peers: int, per_peer: float, strict: bool
) -> None:
    nodes = [{"CPU": float(c), "GPU": float(g)} for c, g in zip(cores, gpus, strict=False)]
    placement = "strict-spread" if strict else "pack"
    refused = demand(peers, nodes, gpus_per_peer=per_peer, placement=placement, device="cuda")
    if refused.fits(nodes):
        return
    base: dict[str, object] = {
        "gpus_per_peer": per_peer,
        "placement": placement,
        "device": "cuda",
    }
    for remedy in refused.remedies(nodes):
        option, value = remedy.removeprefix("--").split()
        if option == "peers":
            assert demand(int(value), nodes, **base).fits(nodes)  # type: ignore[arg-type]
        else:
            name = option.replace("-", "_")
            changed: object = float(value) if name == "gpus_per_peer" else value
            assert demand(peers, nodes, **(base | {name: changed})).fits(nodes)  # type: ignore[arg-type]


def test_what_is_too_small_is_told_with_both_numbers_and_the_remedies() -> None:
    said = shortage.too_small(demand(4, THREE, placement="strict-spread"), THREE, joined=False)
    assert said == (
        "the run needs room for 4 peers of 1 CPU (4 CPU in all), each on a node of its own; "
        "the cluster has 3 nodes of 1 CPU, room for 3. Take --placement spread or --peers 3"
    )
    said = shortage.too_small(demand(3, TWO_GPUS), TWO_GPUS, joined=False)
    assert "3 peers of 1 CPU and 1 GPU (3 CPU and 3 GPU in all)" in said
    assert "1 node of 8 CPU and 2 GPU, room for 2" in said
    assert said.endswith("Take --gpus-per-peer 0.5, --peers 2 or --device cpu")
    said = shortage.too_small(demand(2, THREE, device="cuda"), THREE, joined=True)
    assert "3 nodes of 1 CPU and 0 GPU, room for 0. Take --device cpu or --wait-for-res" in said


def test_a_peer_larger_than_any_node_is_told_though_the_cluster_has_enough_in_all() -> None:
    nodes = [{"CPU": 8.0, "GPU": 1.0}] * 4
    said = shortage.too_small(demand(2, nodes, gpus_per_peer=2), nodes, joined=False)
    assert "2 peers of 1 CPU and 2 GPU" in said
    assert "4 nodes of 8 CPU and 1 GPU, room for 0. Take --gpus-per-peer 1 or" in said


def test_others_in_the_way_are_told_apart_from_a_cluster_that_is_too_small() -> None:
    said = shortage.in_use(demand(3, THREE), THREE, {"CPU": 1.0})
    assert "the cluster has 3 nodes of 1 CPU, but others use it: free are 1 CPU in all." in said


def test_what_is_waited_for_is_named() -> None:
    asked = demand(3, THREE, placement="strict-spread", wait_for_resources=2)
    said = shortage.missing(asked, THREE[:2], {"CPU": 2.0})
    assert "2 nodes of 1 CPU, free are 2 CPU in all; missing: room for 1 peer" in said
    assert shortage.missing(asked, THREE, {}).endswith(
        "free are 0 CPU in all; missing: what others use"
    )
    said = shortage.waited_in_vain(asked, THREE[:2], {})
    assert said.startswith("waited 2 min: the run needs room for 3 peers of 1 CPU")
    assert said.endswith("Take --peers 2 or a longer --wait-for-resources")
    two_threads = demand(2, THREE, threads=2, wait_for_resources=2)
    assert "--threads-per-peer 1" in shortage.waited_in_vain(two_threads, THREE, {})


def test_a_cluster_of_many_kinds_is_told_briefly() -> None:
    nodes = [{"CPU": float(cores)} for cores in (1, 1, 1, 2, 3, 4, 5, 6)]
    said = shortage.too_small(demand(9, nodes, placement="strict-spread"), nodes, joined=False)
    assert "8 nodes (3 of 1 CPU, 1 of 2 CPU, 1 of 3 CPU, 1 of 4 CPU, ...), room for 8" in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"gpus_per_peer": 1.5}, "--gpus-per-peer is 1.5: give a whole number"),
        ({"gpus_per_peer": 1e-5}, "--gpus-per-peer is 1e-05: give"),
        ({"wait_for_resources": -1.0}, "--wait-for-resources is -1.0: give minutes"),
        ({"wait_for_resources": float("nan")}, "--wait-for-resources is nan"),
        ({"executor": "local", "placement": "spread"}, "--placement has no effect"),
        ({"executor": "local", "wait_for_resources": 1.0}, "--wait-for-resources has no effect"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], expected: str) -> None:
    with pytest.raises(PeercollabError, match=expected):
        ExecutionOptions(**options)  # type: ignore[arg-type]
