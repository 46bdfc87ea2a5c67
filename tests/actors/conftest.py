"""A small log and small peers for the tests of the actors."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from peercollab.actors.messages import PeerSetup, SharedSetup
from peercollab.data.sequences import Histories
from peercollab.models.sasrec import SASRecOptions
from peercollab.models.saved import save_description
from peercollab.run import with_start
from peercollab.training.options import TrainingOptions
from peercollab.transplant.options import TransplantOptions
from tests.traces import marked, processes_with


@pytest.fixture
def histories() -> Histories:
    """120 users who walk through 90 items, mostly by steps of one."""
    generator = np.random.default_rng(3)
    lengths = generator.integers(4, 40, 120)
    steps = generator.choice([1, 1, 1, 5, 30], lengths.sum())
    items = (np.cumsum(steps) % 90).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Histories(items, offsets, 90)


@pytest.fixture
def two_peers() -> list[PeerSetup]:
    return [
        PeerSetup(number=1, stream=1, learning_rate=5e-4),
        PeerSetup(number=2, stream=2, learning_rate=1e-3),
    ]


@pytest.fixture
def make_shared(
    tmp_path_factory: pytest.TempPathFactory, histories: Histories
) -> Callable[..., SharedSetup]:
    """What peers have in common under a rule, with a folder of its own for the best model."""

    def make(transplant: TransplantOptions, **training: float) -> SharedSetup:
        best: Path = tmp_path_factory.mktemp("best")
        model = SASRecOptions(hidden_size=16, max_length=12, dropout=0.2)
        save_description(histories.n_items, model, best)
        options = TrainingOptions(**{"epochs": 3, "batch_size": 32, "seed": 5} | training)  # type: ignore[arg-type]
        settings = transplant.build()
        options = with_start(options, settings.rule)
        return SharedSetup(model, options, settings, threads=1, best=best)

    return make


@pytest.fixture
def start_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Starts a `ray.cluster_utils.Cluster` by its head, for runs to join; nothing of it is left."""
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="pc-", dir="/tmp"))
    clusters: list[Any] = []
    for name, value in marked(folder).items():
        monkeypatch.setenv(name, value)

    def start(head: dict[str, Any]) -> Any:
        node = {**head, "include_dashboard": False}
        clusters.append(Cluster(initialize_head=True, head_node_args=node))
        return clusters[-1]

    yield start

    for cluster in clusters:
        cluster.shutdown()
    _, alive = psutil.wait_procs(processes_with(folder), timeout=30)
    for process in alive:
        process.kill()
    shutil.rmtree(folder)
    assert not alive, alive
