"""Ray actors and peers in this process come to the same weights, and exchange as planned."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from peercollab.actors.executor import Executor, LocalExecutor
from peercollab.actors.messages import LayerArrays, PeerProgress, PeerSetup, SharedSetup
from peercollab.actors.options import ExecutionOptions
from peercollab.actors.record import RoundRecord
from peercollab.data.sequences import Histories
from peercollab.models.saved import WEIGHTS
from peercollab.transplant.options import TransplantOptions

MakeShared = Callable[..., SharedSetup]

LOCAL = ExecutionOptions(executor="local")


def no_watch(progress: Sequence[PeerProgress]) -> None:
    pass


def play(
    executor: Executor, rounds: int, peers: int
) -> tuple[list[RoundRecord], list[LayerArrays]]:
    """Run rounds; their records and every peer's weights at the end."""
    records = [executor.run_round(number, no_watch) for number in range(1, rounds + 1)]
    return records, [executor.weights(peer) for peer in range(peers)]


def timeless(record: RoundRecord) -> dict[str, Any]:
    """A round's record without what differs from run to run."""
    story = record.as_json()
    for name in ("seconds", "coordinator_bytes"):
        del story[name]
    for report in story["peers"]:
        del report["seconds"]
    return story


def same(one: LayerArrays, other: LayerArrays) -> bool:
    return one.keys() == other.keys() and all(
        one[name].tobytes() == other[name].tobytes() for name in one
    )


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    "transplant",
    [
        pytest.param(TransplantOptions(), id="entropy"),
        pytest.param(
            TransplantOptions(criterion="l1-norm", steepness=3, layers="middle"),
            id="l1-norm",
            marks=pytest.mark.slow,
        ),
        pytest.param(TransplantOptions(rule="parameter-wise"), id="parameter-wise"),
        pytest.param(TransplantOptions(rule="none"), id="none", marks=pytest.mark.slow),
    ],
)
def test_ray_and_local_agree_bit_for_bit(
    transplant: TransplantOptions,
    make_shared: MakeShared,
    two_peers: list[PeerSetup],
    histories: Histories,
) -> None:
    from peercollab.actors.ray_executor import RayExecutor

    here, there = make_shared(transplant), make_shared(transplant)
    with LocalExecutor(LOCAL, two_peers, here, histories) as executor:
        local_records, local_weights = play(executor, 3, 2)
        local_ranks = executor.rank_selected("test")
    with RayExecutor(ExecutionOptions(), two_peers, there, histories) as executor:
        ray_records, ray_weights = play(executor, 3, 2)
        ray_ranks = executor.rank_selected("test")

    for peer in range(2):
        assert same(local_weights[peer], ray_weights[peer])
    assert (here.best / WEIGHTS).read_bytes() == (there.best / WEIGHTS).read_bytes()
    np.testing.assert_array_equal(local_ranks, ray_ranks)
    for local, ray in zip(local_records, ray_records, strict=True):
        assert timeless(local) == timeless(ray)


def test_peers_that_do_not_exchange_equal_solo_runs(
    make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule="none"))
    with LocalExecutor(LOCAL, two_peers, shared, histories) as executor:
        _, together = play(executor, 3, 2)
    for peer, own in enumerate(two_peers):
        solo = [PeerSetup(number=1, stream=own.stream, learning_rate=own.learning_rate)]
        with LocalExecutor(LOCAL, solo, shared, histories) as executor:
            _, (alone,) = play(executor, 3, 1)
        assert same(together[peer], alone)
    assert not same(together[0], together[1])


@pytest.mark.usefixtures("ray_cluster")
def test_no_weights_pass_through_the_coordinator(
    make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories
) -> None:
    from peercollab.actors.ray_executor import RayExecutor

    shared = make_shared(TransplantOptions(rule="average"))
    with RayExecutor(ExecutionOptions(), two_peers, shared, histories) as executor:
        records, weights = play(executor, 2, 2)
    model_bytes = sum(array.nbytes for array in weights[0].values())
    for record in records:
        assert record.bytes_moved == 2 * model_bytes
        # Something does: reports and statistics, however large the model is.
        assert 500 < record.coordinator_bytes < 10_000 < model_bytes


@pytest.mark.usefixtures("ray_cluster")
def test_bytes_of_questions_and_of_answers_are_counted(
    make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories
) -> None:
    from ray import cloudpickle

    from peercollab.actors.ray_executor import RayExecutor
    from peercollab.actors.ray_peers import RayPeers

    shared = make_shared(TransplantOptions())
    with RayExecutor(ExecutionOptions(), two_peers, shared, histories) as executor:
        peers = RayPeers(executor._muster.handles, patience=60)
        names = list(peers.layers()[0])
        before = peers.bytes_handled
        answers = peers.statistics([0, 1], names)
        grown = peers.bytes_handled - before
    assert [list(answer) for answer in answers] == [names, names]
    asked = 2 * len(cloudpickle.dumps([names]))
    assert grown == asked + sum(len(cloudpickle.dumps(answer)) for answer in answers)


@pytest.mark.usefixtures("ray_cluster")
def test_messages_of_a_large_model_stay_small(
    make_shared: MakeShared, two_peers: list[PeerSetup]
) -> None:
    from peercollab.actors.ray_executor import RayExecutor
    from peercollab.models.sasrec import SASRecOptions

    offsets = np.arange(0, 5 * 40 + 1, 5, dtype=np.int64)
    items = np.arange(200, dtype=np.int32)
    wide = Histories(items, offsets, 20_000)
    shared = replace(make_shared(TransplantOptions()), model=SASRecOptions(blocks=6))
    with RayExecutor(ExecutionOptions(), two_peers, shared, wide) as executor:
        record = executor.run_round(1, no_watch)
    assert record.bytes_moved > 20_000_000
    assert record.coordinator_bytes < 100_000


def test_all_receive_what_donors_held_before_the_exchange(
    make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories
) -> None:
    """After averaging at one time two peers are equal; one after the other they would not be."""
    shared = make_shared(TransplantOptions(rule="average"))
    with LocalExecutor(LOCAL, two_peers, shared, histories) as executor:
        _, (first, second) = play(executor, 1, 2)
    assert same(first, second)


def test_layers_outside_the_scope_stay_and_do_not_travel(
    make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories
) -> None:
    with LocalExecutor(
        LOCAL, two_peers, make_shared(TransplantOptions(rule="none")), histories
    ) as executor:
        _, before = play(executor, 1, 2)
    with LocalExecutor(
        LOCAL, two_peers, make_shared(TransplantOptions(rule="average", layers="final")), histories
    ) as executor:
        (record,), after = play(executor, 1, 2)
    changed = {name for name in before[0] if (before[0][name] != after[0][name]).any()}
    assert changed == {"output.weight", "output.bias"}
    assert record.bytes_moved == 2 * sum(before[0][name].nbytes for name in changed)


def test_the_kept_state_is_the_best_ranked_one_before_its_exchange(
    make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories
) -> None:
    shared = make_shared(TransplantOptions(rule="average"), lr=1e-2)
    fast = [PeerSetup(1, 1, 1e-2), PeerSetup(2, 2, 1e-2)]
    with LocalExecutor(LOCAL, fast, shared, histories) as executor:
        records, _ = play(executor, 3, 2)
        ranks = executor.rank_selected("validation")
    from peercollab.training.metrics import metrics_of

    best = records[-1].best
    assert best is not None
    values = [(report.validation or {})["ndcg@10"] for record in records for report in record.peers]
    assert best.value == max(values)
    assert metrics_of(ranks)["ndcg@10"] == best.value


def test_progress_is_told_while_a_round_goes_on(
    make_shared: MakeShared, two_peers: list[PeerSetup], histories: Histories
) -> None:
    seen: list[PeerProgress] = []
    shared = make_shared(TransplantOptions(rule="none"))
    with LocalExecutor(LOCAL, two_peers, shared, histories) as executor:
        executor.run_round(1, lambda progress: seen.extend(progress))
    assert {progress.peer for progress in seen} == {1, 2}
    assert {"train", "rank", "exchange"} <= {progress.phase for progress in seen}
    ends = [progress for progress in seen if progress.step == progress.steps]
    assert ends
    assert all(np.isfinite(progress.loss) for progress in ends if progress.round == 1)
