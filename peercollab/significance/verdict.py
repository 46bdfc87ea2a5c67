"""What may be said of an arm, and what not: from numbers to a few plain sentences."""

from peercollab.significance.power import MOST_SEEDS, SIGNIFICANCE
from peercollab.significance.result import Answer, Comparison
from peercollab.significance.student import Interval

# Two leave one degree of freedom: intervals six times as wide as those of many seeds.
FEWEST_SEEDS = 3


def verdict(comparison: Comparison) -> str:
    """The claim that the numbers allow, the interval it rests on, and what stands against more."""
    sentences = [_claim(comparison), _limit(comparison), _seeds(comparison)]
    return " ".join(sentence for sentence in sentences if sentence)


def _claim(it: Comparison) -> str:
    arm, baseline, metric = it.arm, it.baseline, it.metric.upper()
    direction = "better" if it.difference > 0 else "worse"
    means = f"({it.arm_mean:.4f} against {it.baseline_mean:.4f})"
    if it.both is not None and it.claimed:
        return (
            f"{arm} is {direction} than {baseline}, also for other users of the kind and trained "
            f"with other seeds: {_seen(it, it.both)} {means}, {_p(it.p_value, it)}."
        )
    if it.new_users.shown:
        return (
            f"These trained models of {arm} are {direction} than those of {baseline}, also for "
            f"other users of the kind: {_seen(it, it.new_users)} {means}, "
            f"{_p(it.new_users.p_adjusted, it)}."
        )
    if it.new_users.interval == Interval(0.0, 0.0) and not any(it.by_seed):
        return f"{arm} and {baseline} gave every user the same {metric} {means}."
    widest = it.both or it.new_users
    return (
        f"No difference between {arm} and {baseline} is shown: {_seen(it, widest)} {means}, "
        f"{_p(it.p_value, it)}. That is not to say that they are equal: anything in the interval "
        "may be true."
    )


def _limit(it: Comparison) -> str:
    """What is not shown, and why."""
    if it.new_trainings is None or it.both is None:
        return (
            "One seed says nothing of the luck of training: another training may well differ. "
            f"Train with {FEWEST_SEEDS} seeds or more."
        )
    if it.claimed:
        return _without_normality(it)
    if it.claimed_if_alone:
        return f"Alone it would be shown, but the most extreme of {it.arms} arms may be so by luck."
    trainings = _told(it.new_trainings, it)
    if it.new_trainings.shown and not it.new_users.shown:
        lack = "" if it.enough_users else ", which takes more users, not more seeds"
        return (
            f"On these very users other trainings would differ ({trainings}); on other users it "
            f"is not shown{lack}."
        )
    if it.new_trainings.shown:
        return (
            "The luck of training and the choice of users together may have made it: "
            f"{_told(it.both, it)}."
        )
    if it.new_users.shown:
        return (
            f"Over {len(it.seeds)} seeds this is not yet distinguishable from the luck of "
            f"training: on these users {trainings}."
        )
    return ""


def _seeds(it: Comparison) -> str:
    """How many seeds it would take, or that users are what is missing."""
    if it.new_trainings is None or it.claimed or it.difference == 0:
        return ""
    if not it.enough_users:
        # Where one of the two is shown it was said already what the other lacks.
        one_is_shown = it.new_trainings.shown != it.new_users.shown
        said = one_is_shown and not it.claimed_if_alone
        return "" if said else "If it is real and as large, more users are needed to show it."
    if it.seeds_needed is None:
        return f"If it is real and as large, more than {MOST_SEEDS} seeds would be needed."
    if it.seeds_needed <= len(it.seeds):
        return ""
    among = "" if it.arms == 1 else f" among {it.arms} arms"
    return f"If it is real and as large, about {it.seeds_needed} seeds would show it{among}."


def _without_normality(it: Comparison) -> str:
    """What the claim leans on, where flipping signs by seed does not bear it out."""
    p_value, least = it.seed_flips_p_value, it.seed_flips_least
    if p_value is None or least is None or p_value < SIGNIFICANCE:
        return ""
    floor = (
        f", and {len(it.seeds)} seeds cannot give less than {_number(least)}"
        if least >= SIGNIFICANCE
        else ""
    )
    return (
        "This takes the differences of seeds to be normally distributed: flipping their signs, "
        f"which does not, gives p = {_number(p_value)}{floor}."
    )


def _seen(it: Comparison, answer: Answer) -> str:
    return f"{it.difference:+.4f} {it.metric.upper()} {_interval(answer.interval)}"


def _told(answer: Answer, it: Comparison) -> str:
    return f"{_interval(answer.interval)}, {_p(answer.p_adjusted, it)}"


def _interval(interval: Interval) -> str:
    return f"[{interval.low:+.4f}, {interval.high:+.4f}]"


def _p(p_value: float, it: Comparison) -> str:
    text = "p < 0.001" if p_value < 0.001 else f"p = {_number(p_value)}"
    return text if it.arms == 1 else f"{text} among {it.arms} arms"


def _number(p_value: float) -> str:
    return f"{p_value:.2g}"
