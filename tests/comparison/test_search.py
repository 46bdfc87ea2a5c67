"""The search is the same for all arms, and validation alone decides it."""

from pathlib import Path

import numpy as np
import pytest

from peercollab.comparison.search import INTERVALS, Trial, best_of, draw, trials_of
from peercollab.data.sequences import Histories
from peercollab.options import TrainOptions

# A window each of 800 users comes to 50 batches of 16.
STEPS = 50
LOG = Histories(
    np.arange(4800, dtype=np.int32) % 90, np.arange(0, 4801, 6, dtype=np.int64), n_items=90
)


def changes_of(told: str, base: TrainOptions, count: int = 8) -> list[dict[str, str]]:
    trials = trials_of(told, base, LOG, count)
    assert [trial.number for trial in trials] == list(range(count + 1))
    assert trials[0].changes == ()
    return [dict(zip(trial.changes[::2], trial.changes[1::2], strict=True)) for trial in trials[1:]]


def test_all_arms_are_tried_with_the_same_rates_and_dropouts(base: TrainOptions) -> None:
    solo, average, layer_wise, ensemble = (
        changes_of(told, base) for told in ("solo", "average", "layer-wise", "ensemble")
    )
    assert solo == ensemble
    assert {frozenset(of) for of in solo} == {frozenset({"--lr", "--dropout"})}
    for one, other, more in zip(solo, average, layer_wise, strict=True):
        assert one.items() < other.items() < more.items()
        assert more.keys() - one.keys() == {"--exchange-every", "--steepness"}


def test_only_what_means_something_to_an_arm_is_drawn(base: TrainOptions) -> None:
    assert {"--percent"} == changes_of("parameter-wise", base)[0].keys() - changes_of(
        "average", base
    )[0].keys()
    arctan = changes_of("own=--rule layer-wise --weighting arctan", base)[0]
    assert "--steepness" not in arctan


def test_what_an_arm_says_itself_stays(base: TrainOptions) -> None:
    for trial in trials_of("own=--rule layer-wise --steepness 7 --lr=0.01", base, LOG, 4)[1:]:
        assert not {"--steepness", "--lr"} & set(trial.changes)
        assert trial.arm.trainings[0].options.transplant.steepness == 7
        assert trial.arm.trainings[0].options.training.lr == 0.01


def test_an_arm_that_says_everything_itself_is_trained_once(base: TrainOptions) -> None:
    (given,) = trials_of("own=--rule none --peers 1 --lr 0.01 --dropout=0", base, LOG, 4)
    assert given.changes == ()
    underscored = trials_of("own=--rule average --exchange_every 5", base, LOG, 4)[1:]
    assert all("--exchange-every" not in trial.changes for trial in underscored)
    assert all(
        trial.arm.trainings[0].options.transplant.exchange_every == 5 for trial in underscored
    )


def test_no_dropout_is_drawn_for_peers_whose_dropouts_are_spread(base: TrainOptions) -> None:
    # Around one of 0.02, which is among the draws of most seeds, 0.1 would reach below 0.
    for drawn in changes_of("own=--rule average --dropout-spread 0.1", base):
        assert drawn.keys() == {"--lr", "--exchange-every"}


def test_what_a_preset_or_a_file_of_an_arm_says_stays(base: TrainOptions, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("lr = 0.01\nrule = 'average'\n")
    for told, drawn in (
        ("own=--preset pcrec --peers 1 --rule none", set()),
        ("own=--preset sasrec-plus --peers 1 --rule none", {"--lr"}),
        (f"own=--config {file}", {"--dropout", "--exchange-every"}),
    ):
        trials = trials_of(told, base, LOG, 3)[1:]
        assert len(trials) == (3 if drawn else 0)
        assert all(set(trial.changes[::2]) == drawn for trial in trials)
        # Each is another training.
        assert len({trial.arm.trainings[0].options for trial in trials}) == len(trials)


def test_no_interval_is_longer_than_the_arms_own_epoch(base: TrainOptions) -> None:
    told = "large=--rule average --batch-size 200"
    intervals = {of["--exchange-every"] for of in changes_of(told, base, 60)}
    assert intervals == {"epoch", "3", "1"}


def test_draws_lie_where_they_should_and_differ(base: TrainOptions) -> None:
    drawn = [draw(base, STEPS, number) for number in range(1, 400)]
    rate = base.training.lr
    ranges = {
        "--lr": (rate / 4, rate * 4),
        "--dropout": (0.0, 0.6),
        "--steepness": (1.0, 300.0),
        "--percent": (5.0, 95.0),
    }
    for name, (least, most) in ranges.items():
        values = [float(of[name]) for of in drawn]
        assert least * 0.99 <= min(values) < least + 0.1 * (most - least)
        assert most - 0.1 * (most - least) < max(values) <= most * 1.01
    intervals = {of["--exchange-every"] for of in drawn}
    assert intervals == {"epoch", *(str(every) for every in INTERVALS if every < STEPS)}
    assert draw(base, STEPS, 3) == draw(base, STEPS, 3)


def test_trials_are_trained_apart_and_differ_in_their_options(base: TrainOptions) -> None:
    trials = trials_of("best-of-n", base, LOG, 3)
    names = [training.name for trial in trials for training in trial.arm.trainings]
    assert names[:4] == ["solo", "solo-2", "solo.t1", "solo-2.t1"]
    assert len(set(names)) == 8
    assert len({trial.arm.trainings[0].options for trial in trials}) == 4


@pytest.mark.parametrize(
    ("values", "best"),
    [([0.1, 0.3, 0.2], 1), ([0.2, 0.2, 0.1], 0), ([None, None, 0.0], 2), ([None] * 3, None)],
)
def test_validation_decides(
    values: list[float | None], best: int | None, base: TrainOptions
) -> None:
    trials: list[Trial] = trials_of("solo", base, LOG, 2)
    found = best_of(trials, values)
    assert (found and found.number) == best
