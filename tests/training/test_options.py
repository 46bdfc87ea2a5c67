"""Training options out of range are refused by name."""

import math
from typing import Any

import pytest

from peercollab.errors import PeercollabError
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.options import TrainingOptions


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"epochs": 0}, "--epochs is 0"),
        ({"epochs": -1}, "--epochs is -1"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"validate_every": 0}, "--validate-every is 0"),
        ({"patience": -1}, "--patience is -1"),
        ({"seed": -1}, "--seed is -1"),
        ({"lr": math.nan}, "--lr is nan"),
        ({"lr": math.inf}, "--lr is inf"),
        ({"lr": 0.0}, "--lr is 0"),
        ({"lr": -1e-3}, "--lr is -0.001"),
        ({"weight_decay": -1.0}, "--weight-decay is -1"),
        ({"weight_decay": math.nan}, "--weight-decay is nan"),
        ({"weight_decay": math.inf}, "--weight-decay is inf"),
        ({"ema": -0.1}, "--ema is -0.1"),
        ({"ema": 1.0}, "--ema is 1.0"),
        ({"ema": math.nan}, "--ema is nan"),
        ({"swa": -1}, "--swa is -1"),
        ({"swa": 1}, "--swa is 1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(PeercollabError) as caught:
        TrainingOptions(**given)
    assert str(caught.value).startswith(named)
    assert ": give" in str(caught.value)


def test_the_least_values_are_taken() -> None:
    TrainingOptions(epochs=1, patience=0, validate_every=1, batch_size=1, weight_decay=0.0, seed=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"negatives": 5}, "--negatives has no effect with --loss full"),
        ({"calibration": 0.5}, "--calibration has no effect with --loss full"),
        (
            {"loss": "sampled", "calibration": 0.5},
            "--calibration has no effect with --loss sampled",
        ),
        ({"loss": "gbce", "calibration": 1.5}, "--calibration is 1.5"),
        ({"loss": "gbce", "negatives": 0}, "--negatives is 0"),
        ({"loss": "sampled", "weight_decay": 0.1}, "--weight-decay is not possible"),
    ],
)
def test_what_a_loss_does_not_have_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PeercollabError, match=message):
        TrainingOptions(**given).of_model(SASRecOptions())


def test_two_averages_at_once_are_refused() -> None:
    for apart in ({"ema": 0.9}, {"swa": 2}):
        TrainingOptions(**apart)
    with pytest.raises(PeercollabError, match=r"--ema 0\.9 and --swa 2 .*leave one of them out"):
        TrainingOptions(ema=0.9, swa=2)


def test_losses_bring_their_published_settings() -> None:
    assert TrainingOptions(loss="sampled").loss_negatives == 4096
    assert TrainingOptions(loss="gbce").loss_negatives == 256
    assert TrainingOptions(loss="gbce").gbce_calibration == 0.75
    assert TrainingOptions(loss="gbce", negatives=7, calibration=0.0).loss_negatives == 7
    assert TrainingOptions(loss="gbce", calibration=0.0).gbce_calibration == 0.0
