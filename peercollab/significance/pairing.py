"""From the ranks of many runs to values that can be compared user by user and seed by seed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from peercollab.data.sequences import IdArray
from peercollab.errors import PeercollabError
from peercollab.results.per_user import UserRanks
from peercollab.training.metrics import SELECTION_METRIC, Float64Array, gains_of

# One alone has no spread.
FEWEST_USERS = 2


@dataclass(frozen=True)
class PairedValues:
    """One metric of all arms under the same seeds and for the same users, in the same order.

    Attributes
    ----------
    metric
        Its name, such as ``ndcg@10``.
    baseline
        The arm that the others are compared with.
    seeds
        Ascending.
    users
        object (str) ``[users]``: the users' own ids.
    values
        For each arm, the baseline included, float64 ``[seeds, users]``, from 0 to 1.

    Raises
    ------
    PeercollabError
        There are fewer than two users, or a value is no finite number.
    """

    metric: str
    baseline: str
    seeds: tuple[int, ...]
    users: IdArray
    values: Mapping[str, Float64Array]

    def __post_init__(self) -> None:
        if len(self.users) < FEWEST_USERS:
            raise PeercollabError(f"{len(self.users)} users are too few to compare arms on")
        for arm, values_SU in self.values.items():
            broken = np.argwhere(~np.isfinite(values_SU))
            if len(broken):
                row, column = broken[0]
                raise PeercollabError(
                    f"arm {arm}, seed {self.seeds[row]}: {self.metric} of user "
                    f"{self.users[column]} is no finite number"
                )


def pair(
    runs: Mapping[str, Mapping[int, UserRanks]], baseline: str, metric: str = SELECTION_METRIC
) -> PairedValues:
    """The value of every user in every run; a target that was not ranked is worth 0.

    Parameters
    ----------
    runs
        For each arm and seed, the ranks of a run.
    baseline
        Its name among the arms.
    metric
        One of those of `gains_of`.

    Raises
    ------
    PeercollabError
        There is no such baseline or metric, or nothing to compare it with; an arm has other seeds
        than the baseline; a run has other users than the baseline's first.
    """
    _require_same_seeds(runs, baseline)
    seeds = sorted(runs[baseline])
    first = runs[baseline][seeds[0]]
    known = gains_of(first.ranks_U)
    if metric not in known:
        raise PeercollabError(f"there is no metric {metric}: there are {', '.join(known)}")
    for arm, by_seed in runs.items():
        for seed in seeds:
            _require_same_users(
                by_seed[seed].users,
                first.users,
                f"arm {arm}, seed {seed}",
                f"arm {baseline}, seed {seeds[0]}",
            )
    return PairedValues(
        metric=metric,
        baseline=baseline,
        seeds=tuple(seeds),
        users=first.users,
        values={
            arm: np.stack([gains_of(by_seed[seed].ranks_U)[metric] for seed in seeds])
            for arm, by_seed in runs.items()
        },
    )


def _require_same_seeds(runs: Mapping[str, Mapping[int, UserRanks]], baseline: str) -> None:
    if baseline not in runs or not runs[baseline]:
        raise PeercollabError(f"there is no run of the baseline, arm {baseline}")
    if len(runs) == 1:
        raise PeercollabError(f"there is no arm to compare with the baseline, arm {baseline}")
    for arm, by_seed in runs.items():
        for seed in sorted(runs[baseline].keys() ^ by_seed.keys()):
            without, has = (baseline, arm) if seed in by_seed else (arm, baseline)
            raise PeercollabError(
                f"arm {without} has no run of seed {seed}, and arm {has} has: arms are compared "
                "seed by seed"
            )


def _require_same_users(users: IdArray, expected: IdArray, run: str, other: str) -> None:
    if np.array_equal(users, expected):
        return
    missing, more = set(expected) - set(users), set(users) - set(expected)
    told = [
        f"{len(ids)} {word}, such as {min(ids)}"
        for ids, word in ((missing, "missing"), (more, "more"))
        if ids
    ]
    raise PeercollabError(
        f"{run} has other users than {other} ({'; '.join(told) or 'in another order'}): "
        "all runs must be of the same data, prepared in the same way"
    )
