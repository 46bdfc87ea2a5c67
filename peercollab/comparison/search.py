"""The same small random search for every arm: options drawn alike, the best on validation taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from peercollab.comparison.arms import Arm, make_arm, own_options
from peercollab.data.sequences import Histories
from peercollab.options import TrainOptions
from peercollab.training.examples import make_examples
from peercollab.transplant.options import options_of

# Added to --seed: the seeds that arms are compared under must not have chosen their options.
SEARCH_SEED = 10_000

# Steps between exchanges that are tried, as far as an epoch has as many.
INTERVALS = (100, 30, 10, 3, 1)


@dataclass(frozen=True)
class Trial:
    """Options that an arm was tried with.

    Attributes
    ----------
    number
        From 0, which has the options as they were given.
    changes
        What was drawn, as on the command line.
    arm
        The arm under these.
    """

    number: int
    changes: tuple[str, ...]
    arm: Arm


def trials_of(told: str, base: TrainOptions, histories: Histories, count: int) -> list[Trial]:
    """The trials of an arm: the options as given, and `count` random ones if one is open.

    What is drawn depends on the seed and the number of the trial alone, so that all arms are tried
    with the same learning rates and dropouts. An option that the arm states itself stays.

    Parameters
    ----------
    told
        The arm, as on the command line.
    base
        What all arms have.
    histories
        What is trained on: an epoch of it is the longest interval between exchanges.
    count
        Random trials.
    """
    given = make_arm(told, base)
    trials = [Trial(0, (), given)]
    is_open = sorted(_open_options(given) - own_options(told))
    if not is_open:
        return trials
    steps = _steps_of_an_epoch(given.trainings[0].options, histories) if count else 0
    for number in range(1, count + 1):
        drawn = draw(base, steps, number)
        changes = tuple(word for option in is_open for word in (option, drawn[option]))
        trials.append(Trial(number, changes, make_arm(told, base, changes, f".t{number}")))
    return trials


def draw(base: TrainOptions, steps: int, number: int) -> dict[str, str]:
    """Random values of all options that are searched, as on the command line.

    The learning rate from a quarter of --lr to four times it and the steepness from 1 to 300 are
    uniform in their logarithm; dropout from 0 to 0.6 and percent from 5 to 95 are uniform.
    """
    rng = np.random.default_rng([base.training.seed, number])
    rate, dropout, steepness, percent, interval = rng.random(5)
    intervals = ["epoch", *(str(every) for every in INTERVALS if every < steps)]
    return {
        "--lr": f"{base.training.lr * 4 ** (2 * rate - 1):.3g}",
        "--dropout": f"{0.6 * dropout:.2f}",
        "--steepness": f"{300**steepness:.3g}",
        "--percent": f"{5 + 90 * percent:.0f}",
        "--exchange-every": intervals[int(interval * len(intervals))],
    }


def is_searched(trials: Sequence[Trial]) -> bool:
    """Whether an arm leaves anything open."""
    return len(trials) > 1


def taken(trials: Sequence[Trial], numbers: Mapping[str, int]) -> Trial | None:
    """The trial that an arm is trained with; None before its search has come to its end.

    Parameters
    ----------
    trials
        Of the arm.
    numbers
        Of each arm whose search has come to its end, that of the trial.
    """
    if not is_searched(trials):
        return trials[0]
    number = numbers.get(trials[0].arm.name)
    return next((trial for trial in trials if trial.number == number), None)


def best_of(trials: Sequence[Trial], values: Sequence[float | None]) -> Trial | None:
    """The trial of the highest value, of equal ones the first; None if all have failed."""
    known = [place for place, value in enumerate(values) if value is not None]
    return trials[max(known, key=lambda place: values[place] or 0.0)] if known else None


def _steps_of_an_epoch(options: TrainOptions, histories: Histories) -> int:
    model = options.model.build()
    training = options.training.of_model(model)
    assert training.batch_size is not None
    return -(-len(make_examples(histories, model)) // training.batch_size)


def _open_options(arm: Arm) -> set[str]:
    """Options of the search that mean something to an arm."""
    options = arm.trainings[0].options
    rule = options.transplant.build().rule
    known = {"--lr"}
    # A spread lies around the dropout that was given: around another it may reach below 0.
    has_spread = options.diversity.dropout_spread > 0
    if options.model.build().dropout_share is not None and not has_spread:
        known.add("--dropout")
    if rule.exchanges:
        known.add("--exchange-every")
    idle = rule.idle()
    return known | {
        f"--{name}"
        for name in ("steepness", "percent")
        if name in options_of(type(rule)) and name not in idle
    }
