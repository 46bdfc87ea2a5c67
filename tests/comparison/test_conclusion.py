"""What a user is told to do, word for word."""

from collections.abc import Mapping
from typing import Any

import pytest

from peercollab.comparison.conclusion import conclusion

SHOWN, NOT_SHOWN = {"p_adjusted": 0.01}, {"p_adjusted": 0.3}


def arm(name: str, parameters: int = 100, hours: float = 1.0, gpu: float = 0.0) -> dict[str, Any]:
    """Three seeds that took so many core-hours each, and one that is not done."""
    entry = {
        "error": None,
        "parameters": parameters,
        "core_seconds": 3600 * hours,
        "gpu_seconds": 3600 * gpu,
    }
    seeds = {str(seed): entry for seed in (1, 2, 3)}
    return {"name": name, "inference_cost": 1, "seeds": {**seeds, "4": None}}


def beside(name: str, gain: float, *, shown: bool, seeds: int = 3) -> dict[str, Any]:
    """How an arm of that name differs from one model."""
    answer = SHOWN if shown else NOT_SHOWN
    several = seeds > 1
    return {
        "arm": name,
        "baseline": "solo-long",
        "difference": gain,
        "seeds": list(range(1, seeds + 1)),
        "by_seed": [gain] * seeds,
        "seeds_needed": None,
        "claimed": shown and several,
        "new_users": answer,
        "new_trainings": answer if several else None,
        "both": answer if several else None,
    }


BASELINE = arm("solo-long")
KEEP = (
    "At the same inference cost nothing here is shown to be better than solo-long: keep to "
    "solo-long"
)


def told(differences: list[dict[str, Any]], *arms: Mapping[str, Any]) -> str:
    return conclusion(differences, [BASELINE, *arms], "solo-long")


def test_the_best_that_is_shown_is_told_with_its_cost_and_then_the_others() -> None:
    differences = [beside("papa", 0.01, shown=True), beside("ema", 0.02, shown=True)]
    assert told(differences, arm("papa", hours=2), arm("ema", hours=0.5)) == (
        "At the same inference cost ema is better than solo-long by 0.0200 NDCG@10 over 3 seeds, "
        "for 0.5 times the training (0.50 against 1.00 core-hours a seed). Also better: papa (by "
        "0.0100, for 2.0 times the training (2.00 against 1.00 core-hours a seed))."
    )


def test_what_serves_with_more_parameters_is_no_candidate() -> None:
    assert told([beside("wide", 0.02, shown=True)], arm("wide", parameters=400)) == f"{KEEP}."


def test_what_is_ahead_and_not_shown_may_be_by_more_seeds() -> None:
    one_seed = beside("papa", 0.01, shown=False, seeds=1)
    countable = beside("papa", 0.01, shown=False) | {"seeds_needed": 9}
    hopeless = beside("papa", 0.01, shown=False)
    behind = beside("papa", -0.01, shown=False) | {"seeds_needed": 9}
    for difference, more in ((one_seed, 1), (countable, 1), (hopeless, 0), (behind, 0)):
        expected = f"{KEEP}{', or train with more seeds' if more else ''}."
        assert told([difference], arm("papa")) == expected


def test_the_cheapest_that_may_be_as_good_is_told() -> None:
    arms = arm("solo", hours=0.5), arm("papa", hours=0.6), arm("ema", hours=0.95)
    differences = [beside(of["name"], -0.001, shown=False) for of in arms]
    assert told(differences, *arms) == (
        f"{KEEP}. Nor is solo shown to be worse, for 0.5 times the training (0.50 against 1.00 "
        "core-hours a seed)."
    )
    # Any doubt is enough not to call it as good.
    differences[0] = beside("solo", -0.001, shown=False) | {"new_users": SHOWN}
    assert "Nor is papa shown to be worse" in told(differences, *arms)
    # A few per cent are no saving, and fewer than three seeds show hardly anything.
    assert told(differences[2:], *arms) == f"{KEEP}."
    few = [beside("solo", -0.001, shown=False, seeds=2)]
    assert told(few, *arms) == f"{KEEP}."


@pytest.mark.parametrize("gain", [0.02, -0.02])
def test_one_model_that_still_gains_by_more_epochs_is_told(gain: float) -> None:
    longer = "raise --epochs, and --patience if it stops them early, until it does not."
    arms = arm("solo", hours=0.5), arm("papa")
    differences = [beside("solo", -0.02, shown=True), beside("papa", gain, shown=True)]
    assert told(differences, *arms).endswith(longer)
    # Only a claim counts: these trained models alone may differ by the luck of training.
    differences[0] = beside("solo", -0.02, shown=False) | {"new_users": SHOWN}
    assert longer not in told(differences, *arms)


def test_costs_on_a_gpu_are_those_of_the_gpu_and_are_not_compared_with_cores() -> None:
    won = [beside("papa", 0.02, shown=True)]
    on_gpu = arm("solo-long", hours=9.0, gpu=0.5)
    assert conclusion(won, [on_gpu, arm("papa", gpu=1.0)], "solo-long").endswith(
        "for 2.0 times the training (1.00 against 0.50 GPU-hours a seed)."
    )
    for baseline, own in ((on_gpu, arm("papa")), (BASELINE, arm("papa", gpu=1.0))):
        assert conclusion(won, [baseline, own], "solo-long").endswith(
            "3 seeds, trained in part on other devices, so that costs cannot be compared."
        )
    some = arm("papa", gpu=1.0)
    some["seeds"]["2"] = arm("papa")["seeds"]["2"]
    assert conclusion(won, [on_gpu, some], "solo-long").endswith("costs cannot be compared.")


def test_without_a_baseline_it_is_said_why() -> None:
    failed = {**BASELINE, "seeds": {"1": {"error": "lower --lr"}, "2": {"error": "lower --lr"}}}
    assert conclusion([], [failed, arm("papa")], "solo-long") == (
        "solo-long failed under every seed, so there is nothing to compare with."
    )
    failed["seeds"]["2"] = None
    too_little = "Too little has come to an end for a comparison."
    assert conclusion([], [failed, arm("papa")], "solo-long") == too_little
    assert conclusion([], [BASELINE], "solo-long") == too_little
    papa = arm("papa")
    assert conclusion([], [BASELINE, papa], "solo-long") == too_little
    papa["seeds"]["2"] = {"error": "lower --lr"}
    assert conclusion([], [BASELINE, papa], "solo-long") == (
        "All but solo-long failed under some seed, so there is nothing to compare."
    )
