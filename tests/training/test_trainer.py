"""A peer's epochs: reproducible to the bit, blind to what is held out, moved by every option."""

import gc
import math
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from peercollab.data.sequences import Histories
from peercollab.data.split import training_spans, windows
from peercollab.errors import PeercollabError
from peercollab.models.model import LossName
from peercollab.training.diversity import Augment, Augmentation
from peercollab.training.metrics import metrics_of
from peercollab.training.precision import choose
from peercollab.training.trainer import STEPS_A_LOOK, Epoch, Trainer
from tests.training.walks import MODEL, OPTIONS, trainer, walks


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def trained(epochs: int = 1, **settings: Any) -> dict[str, torch.Tensor]:
    own = trainer(**settings)
    for epoch in range(1, epochs + 1):
        own.train_epoch(epoch)
    return weights(own)


def test_the_same_streams_give_the_same_bits() -> None:
    assert equal(trained(epochs=2), trained(epochs=2))


@pytest.mark.parametrize("stops", [(1,), (3, 4), (2, 5, 7)])
@pytest.mark.parametrize("kind", ["none", "crop", "mask", "reorder"])
def test_where_an_epoch_is_interrupted_makes_no_difference(
    stops: tuple[int, ...], kind: Augment
) -> None:
    augmentation = Augmentation(kind, 0.3)
    whole, parts = (trainer(augmentation=augmentation) for _ in range(2))
    for epoch in (1, 2):
        report = whole.train_epoch(epoch)
        parts.begin_epoch(epoch)
        for stop in stops:
            parts.train_to(stop)
            torch.rand(3)
        assert parts.train_to(parts.steps_per_epoch) == report
    assert equal(weights(whole), weights(parts))


@pytest.mark.parametrize("loss", ["full", "sampled", "gbce"])
def test_a_state_is_gone_back_to_as_if_nothing_had_been(loss: LossName) -> None:
    own = trainer(replace(OPTIONS, ema=0.9, loss=loss))
    own.train_epoch(1)
    state = own.state()
    outcomes = []
    for _ in range(3):
        own.train_epoch(2)
        outcomes.append((weights(own), own.rank("validation")))
        own.restore(state)
    for outcome, ranks in outcomes[1:]:
        assert equal(outcomes[0][0], outcome)
        np.testing.assert_array_equal(outcomes[0][1], ranks)


def test_importance_is_the_mean_product_of_weights_and_their_gradients() -> None:
    # At a rate that moves nothing all gradients are those of the initial weights.
    still = replace(MODEL, dropout=0.0)
    own = trainer(replace(OPTIONS, batch_size=10_000), still, learning_rate=1e-30)
    measured = trainer(
        replace(OPTIONS, batch_size=10_000), still, learning_rate=1e-30, measure_importance=True
    )
    own.train_epoch(1)
    for epoch in (1, 2):
        measured.train_epoch(epoch)
    means = measured.importance.means()
    for name, weight in own.model.named_parameters():
        assert weight.grad is not None
        expected = (weight * weight.grad).abs().double().mean().item()
        assert means[name].item() == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert not own.importance.means()


def test_measuring_importance_changes_nothing() -> None:
    assert equal(trained(epochs=2), trained(epochs=2, measure_importance=True))


def test_the_moving_average_is_ranked_and_training_goes_on_without_it() -> None:
    plain, averaged = trainer(), trainer(replace(OPTIONS, ema=0.5))
    expected: dict[str, torch.Tensor] = {}
    plain.begin_epoch(1)
    for step in range(1, plain.steps_per_epoch + 1):
        plain.train_to(step)
        for name, now in weights(plain).items():
            # It rises to 0.5, where it is from the ninth step on.
            decay = min(0.5, step / (9 + step))
            expected[name] = torch.lerp(now, expected.get(name, now), decay)
    assert plain.steps_per_epoch > 9
    averaged.train_epoch(1)
    assert equal(weights(plain), weights(averaged))
    for name, value in averaged.ranked.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    assert (plain.rank("validation") != averaged.rank("validation")).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_weight_is_enough_to_be_noticed(bad: float) -> None:
    own = trainer()
    assert own.is_finite()
    with torch.no_grad():
        own.model.get_parameter("blocks.0.value.bias")[3] = bad
    assert not own.is_finite()


def test_what_others_do_with_torchs_generator_changes_nothing() -> None:
    first = trained(epochs=2)
    torch.manual_seed(77)
    own = trainer()
    own.train_epoch(1)
    torch.rand(1000)
    own.rank("validation")
    own.train_epoch(2)
    assert equal(first, weights(own))


def test_only_embeddings_of_items_have_sparse_gradients() -> None:
    # There are as many positions as items.
    sampled = replace(OPTIONS, loss="sampled", negatives=20)
    own = trainer(sampled, replace(MODEL, max_length=walks().n_items))
    own.train_epoch(1)
    sparse = {
        name
        for name, parameter in own.model.named_parameters()
        if parameter.grad is not None and parameter.grad.is_sparse
    }
    assert sparse == {"item_embedding.weight", "output.weight", "output.bias"}


def test_peers_begin_alike_if_they_share_their_start_and_differ_after_an_epoch() -> None:
    shared = replace(OPTIONS, init="shared")
    one, other = (trainer(shared, stream=stream) for stream in (1, 2))
    assert equal(weights(one), weights(other))
    assert not equal(weights(trainer(stream=1)), weights(trainer(stream=2)))
    for own in (one, other):
        own.train_epoch(1)
    assert not equal(weights(one), weights(other))


def test_torchs_and_numpys_own_generators_are_left_as_they_were() -> None:
    torch.manual_seed(1)
    before, before_numpy = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    trainer().train_epoch(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(np.random.get_state()) == before_numpy  # noqa: NPY002


def test_held_out_items_are_never_trained_on() -> None:
    histories = walks()
    changed = histories.items.copy()
    for user in range(histories.n_users):
        stop = histories.offsets[user + 1]
        changed[stop - 2 : stop] = (changed[stop - 2 : stop] + 11) % histories.n_items
    other = replace(histories, items=changed)
    assert equal(trained(histories=histories), trained(histories=other))


@pytest.mark.parametrize(
    "change",
    [
        {"options": replace(OPTIONS, seed=6)},
        {"options": replace(OPTIONS, batch_size=17)},
        {"options": replace(OPTIONS, weight_decay=0.01)},
        {"options": replace(OPTIONS, schedule="cosine")},
        {"options": replace(OPTIONS, loss="sampled", negatives=20)},
        {"options": replace(OPTIONS, loss="gbce", negatives=5)},
        {"options": replace(OPTIONS, precision="bf16")},
        {"options": replace(OPTIONS, init="shared")},
        {"model": replace(MODEL, dropout=0.0)},
        {"model": replace(MODEL, heads=2)},
        {"model": replace(MODEL, max_length=7)},
        {"model": replace(MODEL, blocks=1)},
        {"stream": 2},
        {"augmentation": Augmentation("crop")},
        {"augmentation": Augmentation("mask")},
        {"augmentation": Augmentation("reorder", 0.4)},
        {"learning_rate": 5e-4},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_outcome(change: dict[str, Any]) -> None:
    own, other = trained(), trained(**change)
    shared = [name for name in own if name in other and own[name].shape == other[name].shape]
    assert not all(torch.equal(own[name], other[name]) for name in shared)


@pytest.mark.parametrize(
    "loss", [{}, {"loss": "sampled", "negatives": 30}, {"loss": "gbce", "negatives": 30}]
)
def test_training_learns_the_walk(loss: dict[str, Any]) -> None:
    options = replace(OPTIONS, epochs=30, **loss)
    own = trainer(options, replace(MODEL, dropout=0.0), learning_rate=1e-2)
    before = metrics_of(own.rank("test"))["hr@5"]
    losses = [own.train_epoch(epoch).loss for epoch in range(1, 31)]
    assert losses[-1] < losses[0] / 2
    assert metrics_of(own.rank("test"))["hr@5"] > max(0.9, 2 * before)


def test_an_epoch_says_what_it_came_to() -> None:
    histories = walks(n_users=700)
    own = trainer(replace(OPTIONS, epochs=2), histories=histories, learning_rate=1e-3)
    seen: list[tuple[int, int, float]] = []
    epoch = own.train_epoch(1, lambda step, steps, loss: seen.append((step, steps, loss)))
    positions = np.maximum(histories.lengths - 3, 0).sum()
    assert epoch.positions == positions
    every = windows(training_spans(histories), MODEL.max_length)
    assert own.steps_per_epoch == math.ceil(len(every) / 16)
    steps = [step for step, _, _ in seen]
    assert len(steps) > 1
    assert all(step % STEPS_A_LOOK == 0 for step in steps[:-1])
    assert seen[-1] == (own.steps_per_epoch, own.steps_per_epoch, epoch.loss)
    assert epoch.learning_rate == 1e-3


def test_the_mean_loss_is_that_of_positions() -> None:
    # At a rate that moves nothing every batch is judged under the initial weights.
    histories = walks()
    model = replace(MODEL, dropout=0.0)
    epochs: list[Epoch] = [
        trainer(
            replace(OPTIONS, batch_size=size), model, histories, learning_rate=1e-30
        ).train_epoch(1)
        for size in (7, 1000)
    ]
    assert epochs[0].loss == pytest.approx(epochs[1].loss, rel=1e-6)
    assert epochs[0].positions == epochs[1].positions


def test_every_epoch_has_a_new_order() -> None:
    # Nothing moves and nothing is dropped: the loss half-way depends on the order alone.
    still = replace(MODEL, dropout=0.0)
    own = trainer(replace(OPTIONS, batch_size=2), still, learning_rate=1e-30)
    means: list[float] = []
    whole = [
        own.train_epoch(epoch, lambda step, steps, loss: means.append(loss)).loss
        for epoch in (1, 2)
    ]
    first, second = means[: len(means) // 2], means[len(means) // 2 :]
    assert whole[0] == pytest.approx(whole[1], rel=1e-6)
    assert abs(first[0] / second[0] - 1) > 1e-5


def test_every_epoch_drops_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "peercollab.training.feed.shuffled",
        lambda n_rows, batch_size, generator: [np.arange(n_rows)],
    )
    own = trainer(learning_rate=1e-30)
    own.steps_per_epoch = own.feed.steps_per_epoch = 1
    first, second, first_again = (own.train_epoch(epoch).loss for epoch in (1, 2, 1))
    assert first == first_again
    assert abs(first / second - 1) > 1e-5


def test_a_loss_that_is_no_number_stops_with_advice() -> None:
    own = trainer()
    with torch.no_grad():
        own.model.get_parameter("output.weight").fill_(math.nan)
    with pytest.raises(PeercollabError, match=r"loss became nan .*epoch 1 .*lower --lr"):
        own.train_epoch(1)


def test_a_rate_that_is_far_too_large_ends_in_an_error_not_in_a_model() -> None:
    own = trainer(replace(OPTIONS, batch_size=1), learning_rate=1e30)
    with pytest.raises(PeercollabError, match=r"lower --lr"):
        own.train_epoch(1)


def test_weights_that_the_last_step_ruins_are_noticed() -> None:
    own = trainer(replace(OPTIONS, batch_size=10_000), learning_rate=math.inf)
    assert own.steps_per_epoch == 1
    with pytest.raises(PeercollabError, match=r"weights became NaN or infinite .*lower --lr"):
        own.train_epoch(1)


def test_histories_too_short_to_train_on_are_refused() -> None:
    three_each = Histories(
        np.array([0, 1, 2, 0, 1, 2], dtype=np.int32), np.array([0, 3, 6], dtype=np.int64), 3
    )
    with pytest.raises(PeercollabError, match="two items to train on"):
        trainer(histories=three_each)


def test_nothing_is_dropped_while_ranking() -> None:
    own = trainer(model=replace(MODEL, dropout=0.9))
    own.train_epoch(1)
    np.testing.assert_array_equal(own.rank("validation"), own.rank("validation"))


def test_a_trainer_ends_with_its_last_use() -> None:
    """Its weights and thread do not wait for the collector of cycles."""
    trainer()  # What torch loads with its first optimizer keeps the frames that led there.
    gc.collect()
    gc.disable()
    try:
        own = trainer()
        own.train_epoch(1)
        threads = list(own.feed._thread._threads)
        gone = weakref.ref(own)
        del own
        assert gone() is None
    finally:
        gc.enable()
    for one in threads:
        one.join(timeout=30)
        assert not one.is_alive()


def test_numbers_hold_in_the_backward_pass_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; the device that is asked for stays a CPU."""
    own = trainer()
    own.numbers = choose("auto", "cuda")
    seen: list[str] = []
    rounding = own.numbers.rounding
    monkeypatch.setattr(
        type(own.numbers), "rounding", lambda self, device: rounding(torch.device("cuda"))
    )
    own.model.get_parameter("position_embedding.weight").register_hook(
        lambda grad: seen.append(torch.get_float32_matmul_precision())
    )
    before = torch.get_float32_matmul_precision()
    own.train_epoch(1)
    assert set(seen) == {"high"}
    assert torch.get_float32_matmul_precision() == before
