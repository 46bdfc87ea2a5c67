"""Each verdict word for word: what is claimed, and what is not."""

from dataclasses import replace

from peercollab.significance.result import Answer, Comparison
from peercollab.significance.student import Interval
from peercollab.significance.verdict import verdict

SHOWN = Answer(Interval(0.0012, 0.0068), p_value=0.004, p_adjusted=0.004)
NOT_SHOWN = Answer(Interval(-0.002, 0.01), p_value=0.15, p_adjusted=0.15)
LOST = Answer(Interval(0.0002, 0.0078), p_value=0.04, p_adjusted=0.12)

CLAIMED = Comparison(
    arm="layer-wise",
    baseline="solo",
    metric="ndcg@10",
    arms=1,
    seeds=(1, 2, 3, 4, 5, 6),
    users=6040,
    arm_mean=0.173,
    baseline_mean=0.169,
    difference=0.004,
    by_seed=(0.003, 0.004, 0.005, 0.003, 0.004, 0.005),
    spread_over_seeds=0.001,
    new_users=SHOWN,
    new_trainings=SHOWN,
    both=SHOWN,
    seed_flips_p_value=0.03125,
    seed_flips_least=0.03125,
    bootstrap=Interval(0.0015, 0.0065),
    seeds_needed=3,
    enough_users=True,
)
THREE_SEEDS = replace(
    CLAIMED,
    seeds=(1, 2, 3),
    new_trainings=NOT_SHOWN,
    both=NOT_SHOWN,
    seed_flips_p_value=0.25,
    seed_flips_least=0.25,
    seeds_needed=7,
)
OF_THESE_MODELS = (
    "These trained models of layer-wise are better than those of solo, also for other users of the "
    "kind: +0.0040 NDCG@10 [+0.0012, +0.0068] (0.1730 against 0.1690), p = 0.004."
)
NO_DIFFERENCE = (
    "No difference between layer-wise and solo is shown: +0.0040 NDCG@10 [-0.0020, +0.0100] "
    "(0.1730 against 0.1690), p = 0.15. That is not to say that they are equal: anything in the "
    "interval may be true."
)
ONE_SEED = (
    "One seed says nothing of the luck of training: another training may well differ. Train with 3 "
    "seeds or more."
)


def test_shown_for_all_questions_is_claimed() -> None:
    assert verdict(CLAIMED) == (
        "layer-wise is better than solo, also for other users of the kind and trained with other "
        "seeds: +0.0040 NDCG@10 [+0.0012, +0.0068] (0.1730 against 0.1690), p = 0.004."
    )


def test_worse_is_called_worse() -> None:
    worse = Answer(Interval(-0.0068, -0.0012), 0.0001, 0.0003)
    comparison = replace(
        CLAIMED,
        arms=3,
        difference=-0.004,
        arm_mean=0.165,
        new_users=worse,
        new_trainings=worse,
        both=worse,
    )
    assert verdict(comparison) == (
        "layer-wise is worse than solo, also for other users of the kind and trained with other "
        "seeds: -0.0040 NDCG@10 [-0.0068, -0.0012] (0.1650 against 0.1690), p < 0.001 among 3 arms."
    )


def test_few_seeds_are_claimed_with_what_the_claim_leans_on() -> None:
    comparison = replace(CLAIMED, seeds=(1, 2, 3), seed_flips_p_value=0.25, seed_flips_least=0.25)
    assert verdict(comparison) == (
        f"{verdict(CLAIMED)} This takes the differences of seeds to be normally distributed: "
        "flipping their signs, which does not, gives p = 0.25, and 3 seeds cannot give less than "
        "0.25."
    )


def test_a_claim_that_flips_of_many_seeds_do_not_bear_out_says_so() -> None:
    assert verdict(replace(CLAIMED, seed_flips_p_value=0.1)).endswith(
        "which does not, gives p = 0.1."
    )


def test_training_luck_is_not_claimed_beyond_the_trained_models() -> None:
    assert verdict(THREE_SEEDS) == (
        f"{OF_THESE_MODELS} Over 3 seeds this is not yet distinguishable from the luck of "
        "training: on these users [-0.0020, +0.0100], p = 0.15. If it is real and as large, about "
        "7 seeds would show it."
    )


def test_a_number_of_seeds_that_cannot_be_computed_or_helps_nothing_is_not_told() -> None:
    assert verdict(replace(THREE_SEEDS, seeds_needed=None)).endswith(
        "If it is real and as large, more than 1000 seeds would be needed."
    )
    assert verdict(replace(THREE_SEEDS, seeds_needed=3)).endswith("p = 0.15.")


def test_where_no_number_of_seeds_would_do_users_are_asked_for() -> None:
    comparison = replace(THREE_SEEDS, new_users=NOT_SHOWN, seeds_needed=None, enough_users=False)
    assert verdict(comparison) == (
        f"{NO_DIFFERENCE} If it is real and as large, more users are needed to show it."
    )
    # Where both are shown, and not both at once, nothing else has said what is lacking.
    more_users = "If it is real and as large, more users are needed to show it."
    shown = replace(comparison, new_users=SHOWN, new_trainings=SHOWN)
    assert verdict(shown).endswith(more_users)
    beside_others = replace(shown, new_users=LOST, new_trainings=SHOWN, both=LOST)
    assert verdict(beside_others).endswith(f"may be so by luck. {more_users}")
    # Not where these users show it, who stay when seeds are added.
    assert verdict(replace(comparison, new_users=SHOWN)) == verdict(
        replace(comparison, new_users=SHOWN, enough_users=True, seeds_needed=3)
    )


def test_one_seed_speaks_of_these_models_only() -> None:
    one = replace(
        CLAIMED,
        seeds=(1,),
        by_seed=(0.004,),
        spread_over_seeds=None,
        new_trainings=None,
        both=None,
        seed_flips_p_value=None,
        seed_flips_least=None,
        bootstrap=None,
        seeds_needed=None,
        enough_users=None,
    )
    assert verdict(one) == f"{OF_THESE_MODELS} {ONE_SEED}"
    assert verdict(replace(one, new_users=NOT_SHOWN)) == f"{NO_DIFFERENCE} {ONE_SEED}"


def test_nothing_shown_is_not_equality() -> None:
    comparison = replace(THREE_SEEDS, new_users=NOT_SHOWN)
    assert verdict(comparison) == (
        f"{NO_DIFFERENCE} If it is real and as large, about 7 seeds would show it."
    )


def test_where_users_are_too_few_more_users_are_asked_for() -> None:
    comparison = replace(
        CLAIMED, new_users=NOT_SHOWN, both=NOT_SHOWN, seeds_needed=None, enough_users=False
    )
    assert verdict(comparison) == (
        f"{NO_DIFFERENCE} On these very users other trainings would differ ([+0.0012, +0.0068], "
        "p = 0.004); on other users it is not shown, which takes more users, not more seeds."
    )


def test_where_seeds_would_do_no_more_users_are_asked_for() -> None:
    comparison = replace(CLAIMED, new_users=NOT_SHOWN, both=NOT_SHOWN, seeds_needed=7)
    assert verdict(comparison) == (
        f"{NO_DIFFERENCE} On these very users other trainings would differ ([+0.0012, +0.0068], "
        "p = 0.004); on other users it is not shown. If it is real and as large, about 7 seeds "
        "would show it."
    )


def test_both_kinds_of_luck_may_do_together_what_neither_does() -> None:
    assert verdict(replace(CLAIMED, both=NOT_SHOWN)) == (
        f"{OF_THESE_MODELS} The luck of training and the choice of users together may have made "
        "it: [-0.0020, +0.0100], p = 0.15."
    )


def test_what_holms_correction_takes_away_is_said() -> None:
    comparison = replace(
        CLAIMED, arms=3, new_users=LOST, new_trainings=LOST, both=LOST, seeds_needed=8
    )
    assert verdict(comparison) == (
        "No difference between layer-wise and solo is shown: +0.0040 NDCG@10 [+0.0002, +0.0078] "
        "(0.1730 against 0.1690), p = 0.12 among 3 arms. That is not to say that they are equal: "
        "anything in the interval may be true. Alone it would be shown, but the most extreme of 3 "
        "arms may be so by luck. If it is real and as large, about 8 seeds "
        "would show it among 3 arms."
    )


def test_the_p_that_is_told_is_that_of_the_hardest_question() -> None:
    of_users = replace(SHOWN, p_adjusted=0.03)
    assert CLAIMED.p_value == 0.004
    comparison = replace(CLAIMED, new_users=of_users)
    assert comparison.claimed
    assert comparison.p_value == comparison.as_json()["p_value"] == 0.03
    assert verdict(comparison).endswith("p = 0.03.")


def test_the_same_values_are_called_the_same() -> None:
    nothing = Answer(Interval(0.0, 0.0), 1.0, 1.0)
    comparison = replace(
        CLAIMED,
        arm_mean=0.169,
        difference=0.0,
        by_seed=(0.0,) * 6,
        new_users=nothing,
        new_trainings=nothing,
        both=nothing,
        seeds_needed=None,
    )
    assert verdict(comparison) == (
        "layer-wise and solo gave every user the same NDCG@10 (0.1690 against 0.1690)."
    )
