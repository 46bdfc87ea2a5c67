"""What is known of an arm beside the baseline, as numbers."""

from dataclasses import asdict, dataclass
from typing import Any

from peercollab.significance.power import SIGNIFICANCE
from peercollab.significance.student import Interval


@dataclass(frozen=True)
class Answer:
    """To one of the three questions of `student`.

    Attributes
    ----------
    interval
        95 % of such intervals hold the true mean difference; for this arm alone.
    p_value
        Two-sided, for this arm alone.
    p_adjusted
        After Holm's correction over the arms.
    """

    interval: Interval
    p_value: float
    p_adjusted: float

    @property
    def shown(self) -> bool:
        """Whether there is a difference, at the 5 % level over all arms."""
        return self.p_adjusted < SIGNIFICANCE


@dataclass(frozen=True)
class Comparison:
    """One arm beside the baseline; every difference is arm less baseline.

    Attributes
    ----------
    arm, baseline
        Their names.
    metric
        What is compared, such as ``ndcg@10``; means and differences are in its unit.
    arms
        How many arms were compared with this baseline, and are corrected for.
    seeds
        Under which both were trained.
    users
        How many users both were judged on.
    arm_mean, baseline_mean
        Over seeds and users.
    difference
        Of the means.
    by_seed
        The mean difference of each seed.
    spread_over_seeds
        Standard deviation of those; None with one seed.
    new_users
        Would these trained models differ on other users? p by flipping signs by user.
    new_trainings
        Would another training differ, on these users? p by Student's t over seeds; None with one.
    both
        Would another training differ on other users? p by Student's t; None with one seed.
    seed_flips_p_value, seed_flips_least
        p of flipping signs by seed, and the least that so many seeds can give; None with one.
    bootstrap
        The pigeonhole bootstrap's interval, to compare with that of `both`; None with one seed.
    seeds_needed
        How many would lead to a claim with a power of 80 %; None with one seed, or where no number
        would.
    enough_users
        Whether more seeds can lead to one; else it takes more users. None with one seed.
    """

    arm: str
    baseline: str
    metric: str
    arms: int
    seeds: tuple[int, ...]
    users: int
    arm_mean: float
    baseline_mean: float
    difference: float
    by_seed: tuple[float, ...]
    spread_over_seeds: float | None
    new_users: Answer
    new_trainings: Answer | None
    both: Answer | None
    seed_flips_p_value: float | None
    seed_flips_least: float | None
    bootstrap: Interval | None
    seeds_needed: int | None
    enough_users: bool | None

    @property
    def answers(self) -> tuple[Answer | None, ...]:
        """To all three questions."""
        return self.new_users, self.new_trainings, self.both

    @property
    def p_value(self) -> float:
        """Of all that is asked at once: the largest p of the three questions, after correction."""
        return max(answer.p_adjusted for answer in self.answers if answer is not None)

    @property
    def claimed(self) -> bool:
        """Whether it may be said that the arm differs: all three questions must say so."""
        return all(answer is not None and answer.shown for answer in self.answers)

    @property
    def claimed_if_alone(self) -> bool:
        """Whether it could be said if this were the only arm."""
        return all(answer is not None and answer.p_value < SIGNIFICANCE for answer in self.answers)

    def as_json(self) -> dict[str, Any]:
        """Numbers, texts, lists and objects of them; None where a number is not known."""
        return asdict(self) | {"claimed": self.claimed, "p_value": self.p_value}
