"""A store that the exchanges would overflow is told of before the run."""

from collections.abc import Callable

import pytest

from peercollab.actors.messages import PeerSetup, SharedSetup
from peercollab.actors.object_store import parcel_bytes, small_store
from peercollab.actors.options import ExecutionOptions
from peercollab.data.sequences import Histories
from peercollab.models.build import build_model, model_bytes
from peercollab.models.sasrec import SASRecOptions
from peercollab.transplant.options import TransplantOptions

MB = 1 << 20


def test_bytes_of_a_model_are_known_before_it_is_made() -> None:
    options = SASRecOptions(hidden_size=16, blocks=3)
    model = build_model(90, options, seed=1)
    assert model_bytes(90, options) == sum(value.nbytes for value in model.state_dict().values())


def test_what_a_peer_gives(make_shared: Callable[..., SharedSetup]) -> None:
    shared = make_shared(TransplantOptions())
    model = model_bytes(90, shared.model)
    assert parcel_bytes(shared, 90) == model
    assert parcel_bytes(make_shared(TransplantOptions(moments="transplant")), 90) == 3 * model
    assert parcel_bytes(make_shared(TransplantOptions(rule="none")), 90) == 0
    assert parcel_bytes(make_shared(TransplantOptions(rule="noise")), 90) == 0


def test_the_tightest_node_decides() -> None:
    stores = {"a": 100.0 * MB, "b": 100.0 * MB}
    assert small_store(20 * MB, {"a": 2, "b": 1}, stores) is None
    said = small_store(20 * MB, {"a": 3, "b": 1}, stores)
    assert said is not None
    assert "120 MB of a node's object store, which has 100 MB" in said
    assert "--object-store-memory" in said
    assert "120 MB" in (small_store(20 * MB, {"a": 3, "b": 3}, {"b": 1.0 * MB}) or "")


def test_a_cluster_that_does_not_tell_is_not_judged() -> None:
    assert small_store(20 * MB, {"a": 3}, {}) is None
    assert small_store(20 * MB, {"a": 3}, {"a": 0.0}) is None


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
