"""What a peer trains on: the same steps whatever happens in between, each made ready in time."""

import threading
from typing import Any

import numpy as np
import pytest
import torch

from peercollab.data.sequences import Histories
from peercollab.data.split import training_spans, windows
from peercollab.errors import PeercollabError
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.diversity import Augmentation
from peercollab.training.examples import make_examples
from peercollab.training.feed import Feed, Step
from peercollab.training.objective import Objective
from peercollab.training.options import TrainingOptions
from peercollab.training.streams import stream_seed

CPU = torch.device("cpu")
LENGTH, BATCH = 6, 8


def histories(n_users: int = 60) -> Histories:
    generator = np.random.default_rng(4)
    lengths = generator.integers(4, 20, n_users)
    items = generator.integers(0, 30, lengths.sum()).astype(np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), 30)


def feed(kind: Any = "none", loss: Any = "sampled", users: int = 60) -> Feed:
    data = histories(users)
    return Feed(
        make_examples(data, SASRecOptions(max_length=LENGTH), augmentation=Augmentation(kind, 0.4)),
        BATCH,
        Objective(TrainingOptions(loss=loss), data, CPU),
        lambda purpose, epoch: stream_seed(5, 1, purpose, epoch),
        CPU,
    )


def epoch(own: Feed, number: int, steps: int | None = None) -> list[Step]:
    own.begin(number)
    return [own.step(i) for i in range(own.steps_per_epoch if steps is None else steps)]


def same(one: list[Step], other: list[Step]) -> bool:
    return len(one) == len(other) and all(
        len(a.parts) == len(b.parts)
        and all(
            torch.equal(x.rows.items_BL, y.rows.items_BL)
            for x, y in zip(a.parts, b.parts, strict=True)
        )
        and torch.equal(a.targets_N, b.targets_N)
        and (a.negatives is None) == (b.negatives is None)
        and (a.negatives is None or torch.equal(a.negatives, b.negatives))  # type: ignore[arg-type]
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("kind", ["none", "crop", "mask", "reorder"])
@pytest.mark.parametrize("loss", ["full", "sampled", "gbce"])
def test_an_epoch_is_the_same_whatever_came_before_it(kind: Any, loss: Any) -> None:
    one, other = feed(kind, loss), feed(kind, loss)
    first, second = epoch(one, 1), epoch(one, 2)
    epoch(other, 3)
    epoch(other, 2, steps=3)
    assert same(epoch(other, 2), second)
    assert same(epoch(other, 1), first)
    assert not same(first, second)


def test_every_target_is_there_once_an_epoch() -> None:
    every = windows(training_spans(histories()), LENGTH)
    targets = [step.targets_N for step in epoch(feed(), 1)]
    assert sum(map(len, targets)) == (every.lengths - 1).sum()


def test_the_next_step_and_epoch_are_made_ready_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    ready = threading.Semaphore(0)
    for name in ("_plan", "_make"):
        whole = getattr(Feed, name)

        def noted(self: Feed, *arguments: Any, name: str = name, whole: Any = whole) -> Any:
            assert threading.current_thread() is not threading.main_thread()
            made.append(name)
            ready.release()
            return whole(self, *arguments)

        monkeypatch.setattr(Feed, name, noted)
    own = feed()
    own.begin(1)
    assert ready.acquire(timeout=30)
    assert ready.acquire(timeout=30)
    assert made == ["_plan", "_make"]
    own.step(0)
    assert ready.acquire(timeout=30), "the second step is made while the first is at work"
    for number in range(1, own.steps_per_epoch):
        own.step(number)
    for _ in range(own.steps_per_epoch - 1):
        assert ready.acquire(timeout=30)
    assert made.count("_plan") == 2
    assert made.count("_make") == own.steps_per_epoch
    own.begin(2)
    own.step(0)
    assert made.count("_plan") == 2, "the epoch that was planned ahead is the next one"


def test_a_step_out_of_order_is_a_mistake() -> None:
    own = feed()
    with pytest.raises(AssertionError, match="an epoch must have begun"):
        own.step(0)
    own.begin(1)
    for wrong in (1, 2):
        with pytest.raises(AssertionError, match=f"step {wrong} was asked for, and step 0 is next"):
            own.step(wrong)
    for number in range(own.steps_per_epoch):
        own.step(number)
    with pytest.raises(AssertionError, match="with steps left"):
        own.step(own.steps_per_epoch)


def test_histories_too_short_are_refused() -> None:
    short = Histories(np.arange(2, dtype=np.int32), np.array([0, 1, 2]), 4)
    with pytest.raises(PeercollabError, match="no user has two items"):
        make_examples(short, SASRecOptions())
