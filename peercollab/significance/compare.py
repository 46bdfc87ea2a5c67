"""Every arm beside the baseline: what differs, and whether it is more than luck."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from peercollab.significance.bootstrap import RESAMPLES, pigeonhole_interval
from peercollab.significance.flips import FLIPS, flip_p_value, least_p_value
from peercollab.significance.holm import holm
from peercollab.significance.pairing import PairedValues
from peercollab.significance.power import SIGNIFICANCE, effect_of, enough_users, seeds_needed
from peercollab.significance.result import Answer, Comparison
from peercollab.significance.student import Estimate, for_both, for_new_trainings, for_new_users


def compare_arms(
    paired: PairedValues,
    seed: int = 0,
    flips: int = FLIPS,
    resamples: int = RESAMPLES,
    others: int = 0,
) -> list[Comparison]:
    """Compare each arm with the baseline, in the order of the arms.

    Parameters
    ----------
    paired
        One metric, chosen before the runs were seen: Holm's correction is over arms alone.
    seed
        Of flips and bootstrap. The same seed gives the same numbers.
    flips, resamples
        How many random ones.
    others
        Arms that were compared with the baseline before and are not given again: who looks at many
        and shows a few must count all.
    """
    arms = [arm for arm in paired.values if arm != paired.baseline]
    looked_at = len(arms) + others
    compared = [_compare(paired, arm, looked_at, seed, flips, resamples) for arm in arms]
    return _adjusted(compared, others)


def _compare(
    paired: PairedValues, arm: str, arms: int, seed: int, flips: int, resamples: int
) -> Comparison:
    arm_SU, baseline_SU = paired.values[arm], paired.values[paired.baseline]
    differences_SU = arm_SU - baseline_SU
    by_seed_S = differences_SU.mean(axis=1)
    several = len(by_seed_S) > 1
    users = for_new_users(differences_SU)
    # What Holm asks of the most extreme arm.
    level = SIGNIFICANCE / arms
    effect = effect_of(differences_SU) if several else None
    return Comparison(
        arm=arm,
        baseline=paired.baseline,
        metric=paired.metric,
        arms=arms,
        seeds=paired.seeds,
        users=len(paired.users),
        arm_mean=float(np.mean(arm_SU)),
        baseline_mean=float(np.mean(baseline_SU)),
        difference=users.mean,
        by_seed=tuple(by_seed_S.tolist()),
        spread_over_seeds=None if effect is None else effect.spread,
        new_users=_answer(users, flip_p_value(differences_SU.mean(axis=0), seed, flips)),
        new_trainings=_answer(for_new_trainings(differences_SU)) if several else None,
        both=_answer(for_both(differences_SU)) if several else None,
        seed_flips_p_value=flip_p_value(by_seed_S, seed, flips) if several else None,
        seed_flips_least=least_p_value(len(by_seed_S)) if several else None,
        bootstrap=pigeonhole_interval(differences_SU, seed, resamples) if several else None,
        seeds_needed=None if effect is None else seeds_needed(effect, level),
        enough_users=None if effect is None else enough_users(effect, level),
    )


def _answer(estimate: Estimate, p_value: float | None = None) -> Answer:
    p_value = estimate.p_value() if p_value is None else p_value
    return Answer(estimate.interval(), p_value, p_adjusted=p_value)


def _adjusted(comparisons: Sequence[Comparison], others: int) -> list[Comparison]:
    """With Holm's correction over the arms, for each question by itself."""
    by_question = zip(*(comparison.answers for comparison in comparisons), strict=True)
    corrected = zip(*(_corrected(answers, others) for answers in by_question), strict=True)
    return [
        replace(comparison, new_users=new_users, new_trainings=new_trainings, both=both)
        for comparison, (new_users, new_trainings, both) in zip(comparisons, corrected, strict=True)
    ]


def _corrected(answers: Sequence[Answer | None], others: int) -> list[Answer | None]:
    # All arms have the same seeds: a question is answered for all of them or for none.
    given = [answer for answer in answers if answer is not None]
    if not given:
        return list(answers)
    p_values = holm([answer.p_value for answer in given], others)
    return [replace(a, p_adjusted=p) for a, p in zip(given, p_values, strict=True)]
