"""A store that the exchanges would overflow is told of before the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peercollab.actors.messages import PeerSetup, SharedSetup
from peercollab.actors.object_store import parcel_bytes, small_store
from peercollab.actors.options import ExecutionOptions
from peercollab.data.sequences import Histories
from peercollab.models.build import build_model, model_bytes
from peercollab.models.sasrec import SASRecOptions
from peercollab.transplant.options import TransplantOptions
from tests.test_resume import log as log
from tests.test_resume import outcome
from tests.traces import Watched

MB = 1 << 20

# Three peers give more than 60 MB each, to a store of 80 MB.
LARGE = (
    "--epochs 2 --hidden-size 1024 --blocks 1 --max-length 10 --batch-size 64 --min-interactions 1 "
    "--threads-per-peer 1 --peers 3 --rule average --donors mean --moments transplant"
)
SMALL_STORE = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": 80 * MB}


def test_bytes_of_a_model_are_known_before_it_is_made() -> None:
    options = SASRecOptions(hidden_size=16, blocks=3)
    model = build_model(90, options, seed=1)
    assert model_bytes(90, options) == sum(value.nbytes for value in model.state_dict().values())


def test_what_a_peer_gives(make_shared: Callable[..., SharedSetup], histories: Histories) -> None:
    shared = make_shared(TransplantOptions())
    model = model_bytes(histories.n_items, shared.model)
    assert parcel_bytes(shared, histories) == model
    assert (
        parcel_bytes(make_shared(TransplantOptions(moments="transplant")), histories) == 3 * model
    )
    assert parcel_bytes(make_shared(TransplantOptions(rule="none")), histories) == 0
    assert parcel_bytes(make_shared(TransplantOptions(rule="noise")), histories) == 0


def test_the_tightest_node_decides() -> None:
    stores = {"a": 100.0 * MB, "b": 100.0 * MB}
    assert small_store(20 * MB, {"a": 2, "b": 1}, stores, from_all=False) is None
    said = small_store(20 * MB, {"a": 3, "b": 1}, stores, from_all=False)
    assert said is not None
    assert "120 MB of a node's object store, which has 100 MB" in said
    assert "--object-store-memory" in said
    assert "120 MB" in (
        small_store(20 * MB, {"a": 3, "b": 3}, {"b": 1.0 * MB}, from_all=False) or ""
    )


def test_where_each_takes_from_all_a_node_holds_what_all_give() -> None:
    stores = {"a": 100.0 * MB, "b": 1000.0 * MB}
    peers = {"a": 1, "b": 3}
    assert small_store(20 * MB, peers, stores, from_all=True) is None
    said = small_store(20 * MB, {**peers, "b": 4}, stores, from_all=True) or ""
    assert "120 MB of a node's object store, which has 100 MB" in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (TransplantOptions(), False),
        (TransplantOptions(donors="best"), False),
        (TransplantOptions(donors="mean"), True),
        (TransplantOptions(rule="average"), False),
        (TransplantOptions(rule="papa"), True),
        (TransplantOptions(rule="diloco"), True),
        # Of every other peer, but some entries of a layer.
        (TransplantOptions(rule="wash"), False),
    ],
)
def test_rules_say_whether_each_takes_from_all(options: TransplantOptions, expected: bool) -> None:
    assert options.build().rule.takes_from_all == expected


def test_a_cluster_that_does_not_tell_is_not_judged() -> None:
    assert small_store(20 * MB, {"a": 3}, {}, from_all=False) is None
    assert small_store(20 * MB, {"a": 3}, {"a": 0.0}, from_all=False) is None


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_tells_of_a_small_store_and_goes_on(
    make_shared: Callable[..., SharedSetup],
    two_peers: list[PeerSetup],
    histories: Histories,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peercollab.actors.ray_executor import RayExecutor

    shared = make_shared(TransplantOptions())
    monkeypatch.setattr("peercollab.actors.object_store.model_bytes", lambda *_: 100 * MB)
    with RayExecutor(ExecutionOptions(), two_peers, shared, histories):
        said = capsys.readouterr().out
    assert said.startswith(
        "look: an exchange may take 400 MB of a node's object store, which has 256"
    )


@pytest.mark.slow
def test_a_run_goes_on_where_an_exchange_does_not_fit_into_the_store(
    start_nodes: Callable[..., Any], log: Path, tmp_path: Path
) -> None:
    """Ray takes the disk for the rest."""
    nodes = start_nodes(SMALL_STORE)
    runs = {}
    for name, where in {
        "ray": ["--address", nodes.address],
        "local": ["--executor", "local"],
    }.items():
        command = ["train", "--data", str(log), "--out", str(tmp_path / name), *LARGE.split()]
        runs[name] = run = Watched([*command, *where], tmp_path / f"{name}.txt")
        try:
            assert run.end() == 0, run.output.read_text()
            run.require_no_traces()
        finally:
            run.clean_up()
    logs = nodes.head_node.get_logs_dir_path()
    assert "Spilled" in (Path(logs) / "raylet.out").read_text()
    assert "look: an exchange may take" in runs["ray"].output.read_text()
    assert outcome(tmp_path / "ray") == outcome(tmp_path / "local")


@pytest.mark.slow
def test_a_full_store_and_a_full_disk_end_the_run_in_our_words(
    start_nodes: Callable[..., Any], log: Path, tmp_path: Path
) -> None:
    # Ray takes a disk for full from this share on, which every disk has.
    full = {"local_fs_capacity_threshold": 1e-9}
    nodes = start_nodes({**SMALL_STORE, "_system_config": full})
    command = ["train", "--data", str(log), "--out", str(tmp_path / "run"), *LARGE.split()]
    run = Watched([*command, "--address", nodes.address], tmp_path / "output.txt")
    try:
        assert run.end() == 2, run.output.read_text()
        run.require_no_traces()
    finally:
        run.clean_up()
    *_, last = run.output.read_text().splitlines()
    assert last.startswith("peercollab: the peers' transplant found no room in a node's object sto")
    assert "--object-store-memory BYTES" in last
