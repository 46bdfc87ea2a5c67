"""Importance over a real epoch: of the weights that each gradient was taken at, step by step."""

import numpy as np
import pytest

from peercollab.training.trainer import Trainer
from tests.training.walks import trainer


def walking_trainer(*, measure_importance: bool) -> Trainer:
    """A trainer with a rate that moves weights far."""
    return trainer(learning_rate=1e-2, measure_importance=measure_importance)


def products_of_an_epoch(own: Trainer, epoch: int) -> dict[str, list[float]]:
    """Of each parameter the mean of ``|weight * gradient|`` in each step, found from outside."""
    found: dict[str, list[float]] = {}
    own.begin_epoch(epoch)
    for step in range(1, own.steps_per_epoch + 1):
        before = {n: weight.detach().clone() for n, weight in own.model.named_parameters()}
        own.train_to(step)
        for name, weight in own.model.named_parameters():
            # A step leaves its gradients behind, for the next to clear.
            assert weight.grad is not None
            product = (before[name].double() * weight.grad.double()).abs().mean()
            found.setdefault(name, []).append(product.item())
    return found


def test_importance_is_the_mean_over_an_epochs_steps_of_weights_before_each() -> None:
    watched, measured = (walking_trainer(measure_importance=on) for on in (False, True))
    assert watched.steps_per_epoch > 5
    # The second epoch: what the first measured is forgotten.
    for epoch in (1, 2):
        expected = products_of_an_epoch(watched, epoch)
        measured.train_epoch(epoch)
        means = measured.importance.means()
        assert means.keys() == expected.keys()
        for name, products in expected.items():
            assert means[name].item() == pytest.approx(np.mean(products), rel=1e-5, abs=1e-12)


def test_importance_within_an_epoch_is_that_of_its_steps_so_far() -> None:
    watched, measured = (walking_trainer(measure_importance=on) for on in (False, True))
    expected = products_of_an_epoch(watched, 1)
    measured.begin_epoch(1)
    for stop in (1, 4):
        measured.train_to(stop)
        for name, mean in measured.importance.means().items():
            products = expected[name][:stop]
            assert mean.item() == pytest.approx(np.mean(products), rel=1e-5, abs=1e-12)
