"""The mean of the last epochs' ends is what is ranked, and nothing that is trained knows of it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from peercollab.models.build import build_model
from peercollab.models.sasrec import SASRec
from peercollab.training.averaging import ExponentialMovingAverage, WindowAverage
from peercollab.training.trainer import Trainer
from tests.training.walks import MODEL, OPTIONS, trainer

State = dict[str, Tensor]


def own_state(trainer: Trainer) -> State:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def ranked_state(trainer: Trainer) -> State:
    return {name: value.clone() for name, value in trainer.ranked.state_dict().items()}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def mean_of(states: list[State]) -> State:
    return {
        name: torch.from_numpy(np.mean([state[name].double().numpy() for state in states], axis=0))
        for name in states[0]
    }


def assert_near(state: State, expected: State) -> None:
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("length", [2, 3, 20])
def test_the_mean_of_the_last_epochs_ends_is_ranked(length: int) -> None:
    plain, averaged = trainer(), trainer(replace(OPTIONS, swa=length))
    ends: list[State] = []
    for epoch in range(1, 6):
        for each in (plain, averaged):
            each.train_epoch(epoch)
        ends.append(own_state(plain))
        mean = mean_of(ends[-length:])
        assert_near(ranked_state(averaged), mean)
        expected = plain.rank_weights({name: of.float() for name, of in mean.items()}, "test")
        # A near tie may turn with the last bit of a mean.
        assert (averaged.rank("test") == expected).mean() > 0.99
    assert (averaged.rank("test") != plain.rank("test")).any()


def test_the_first_epochs_mean_is_its_end_itself() -> None:
    own = trainer(replace(OPTIONS, swa=4))
    own.train_epoch(1)
    assert equal(ranked_state(own), own_state(own))


def test_before_an_epoch_has_ended_the_weights_themselves_are_ranked() -> None:
    own = trainer(replace(OPTIONS, swa=4))
    own.begin_epoch(1)
    own.train_to(1)
    assert own.ranked is own.model


def test_training_goes_on_from_the_peers_own_weights() -> None:
    plain, averaged = trainer(), trainer(replace(OPTIONS, swa=2))
    for epoch in range(1, 5):
        assert plain.train_epoch(epoch) == averaged.train_epoch(epoch)
        averaged.rank("validation")
        assert equal(own_state(plain), own_state(averaged))


def test_an_epoch_ends_once_however_it_is_interrupted() -> None:
    whole, parts = (trainer(replace(OPTIONS, swa=3)) for _ in range(2))
    for epoch in (1, 2, 3):
        whole.train_epoch(epoch)
        parts.begin_epoch(epoch)
        for stop in (2, 5, parts.steps_per_epoch, parts.steps_per_epoch):
            parts.train_to(stop)
    assert equal(ranked_state(whole), ranked_state(parts))


@pytest.mark.parametrize("epochs", [0, 1, 2, 4])
def test_a_state_takes_the_window_back(epochs: int) -> None:
    """Also in a trainer that was made anew, as when a run is resumed."""
    own = trainer(replace(OPTIONS, swa=3))
    for epoch in range(1, epochs + 1):
        own.train_epoch(epoch)
    state, ranked = own.state(), ranked_state(own)

    def go_on(each: Trainer) -> list[State]:
        outcomes = []
        for epoch in (epochs + 1, epochs + 2):
            each.train_epoch(epoch)
            outcomes.append(ranked_state(each))
        return outcomes

    first, second = go_on(own)
    assert not equal(first, second)
    for each in (own, own, trainer(replace(OPTIONS, swa=3))):
        each.restore(state)
        assert equal(ranked_state(each), ranked)
        again = go_on(each)
        assert equal(again[0], first)
        assert equal(again[1], second)


def test_an_exchange_after_an_epochs_end_does_not_enter_it() -> None:
    own = trainer(replace(OPTIONS, swa=2))
    own.train_epoch(1)
    end = own_state(own)
    with torch.no_grad():
        own.model.get_parameter("output.weight").add_(1)
    assert equal(ranked_state(own), end)
    own.restore(own.state())
    assert equal(ranked_state(own), end)
    own.train_epoch(2)
    assert_near(ranked_state(own), mean_of([end, own_state(own)]))


def test_the_moving_average_is_torchs_own() -> None:
    """Beside the average of swa_utils, told the decay of every step; whole numbers are the last."""
    model = build_model(9, MODEL, seed=1)
    model.register_buffer("statistic", torch.zeros(2))
    model.register_buffer("count", torch.tensor(0))
    oracle = AveragedModel(model, use_buffers=True)
    own = ExponentialMovingAverage(model, 0.5)
    for step in range(12):
        with torch.no_grad():
            for tensor in (*model.parameters(), model.get_buffer("statistic")):
                tensor.add_(torch.randn_like(tensor))
            model.get_buffer("count").fill_(step)
        if step == 7:
            own.restore(copy.deepcopy(own.state()))
        oracle.multi_avg_fn = get_ema_multi_avg_fn(min(0.5, (1 + step) / (10 + step)))
        oracle.update_parameters(model)
        own.after_step()
        expected = {
            name.removeprefix("module."): value
            for name, value in oracle.state_dict().items()
            if name not in ("n_averaged", "module.count")
        }
        found = dict(own.ranked.state_dict())
        assert found.pop("count") == step
        assert equal(found, expected)


def test_buffers_and_whole_numbers_are_the_last_epochs() -> None:
    model = build_model(9, MODEL, seed=1)
    model.register_buffer("statistic", torch.zeros(2))
    model.register_buffer("count", torch.tensor(0))
    model.register_buffer("mask", torch.ones(2), persistent=False)
    model.register_parameter("version", nn.Parameter(torch.tensor(0), requires_grad=False))
    average = WindowAverage(model, 2)
    weight = model.get_parameter("position_embedding.weight")
    for value in (7.0, 1.0, 4.0):
        with torch.no_grad():
            weight.fill_(value)
            model.get_buffer("statistic").fill_(value)
            model.get_buffer("count").fill_(int(value))
            model.get_parameter("version").fill_(int(value))
        average.after_epoch()
    ranked = average.ranked
    assert torch.equal(ranked.get_parameter("position_embedding.weight"), weight - 1.5)
    assert torch.equal(ranked.get_buffer("statistic"), torch.full((2,), 4.0))
    for count in (ranked.get_buffer("count"), ranked.get_parameter("version")):
        assert count == 4
        assert count.dtype == torch.int64


def test_tied_tensors_stay_tied() -> None:
    model = build_model(9, MODEL, seed=1)
    assert isinstance(model, SASRec)
    assert model.output is not None
    model.output.weight = model.item_embedding.weight
    average = WindowAverage(model, 2)
    for value in (1.0, 4.0):
        with torch.no_grad():
            model.get_parameter("output.weight").fill_(value)
        average.after_epoch()
    ranked = average.ranked
    assert isinstance(ranked, SASRec)
    assert ranked.get_parameter("output.weight") is ranked.item_embedding.weight
    assert torch.equal(
        ranked.get_parameter("output.weight"),
        torch.full_like(ranked.get_parameter("output.weight"), 2.5),
    )
