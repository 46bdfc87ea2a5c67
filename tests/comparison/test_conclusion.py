"""What a user is told to do, word for word."""

from collections.abc import Mapping
from typing import Any

import pytest

from peercollab.comparison.conclusion import advised_run, conclusion

SHOWN, NOT_SHOWN = {"p_adjusted": 0.01}, {"p_adjusted": 0.3}


def arm(name: str, parameters: int = 100, hours: float = 1.0, gpu: float = 0.0) -> dict[str, Any]:
    """Three seeds that took so many core-hours each, and one that failed.

    The second is best on validation.
    """
    entry = {
        "error": None,
        "parameters": parameters,
        "core_seconds": 3600 * hours,
        "gpu_seconds": 3600 * gpu,
    }
    seeds = {
        str(seed): entry
        | {
            "test": {"ndcg@10": 0.1},
            "validation": {"ndcg@10": 0.2 if seed == 2 else 0.1},
            "folder": f"runs/{name}/seed-{seed}",
        }
        for seed in (1, 2, 3)
    }
    return {"name": name, "inference_cost": 1, "seeds": {**seeds, "4": {"error": "lower --lr"}}}


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
    return conclusion(differences, [BASELINE, *arms], "solo-long", 0.05)


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
    few = ", or train with 3 seeds or more, as fewer show hardly anything"
    more = ", or train with more seeds"
    expected = ((one_seed, few), (countable, more), (hopeless, ""), (behind, ""))
    for difference, advice in expected:
        assert told([difference], arm("papa")) == f"{KEEP}{advice}."


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
    assert "Nor is" not in told(few, *arms)


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
    assert conclusion(won, [on_gpu, arm("papa", gpu=1.0)], "solo-long", None).endswith(
        "for 2.0 times the training (1.00 against 0.50 GPU-hours a seed)."
    )
    for baseline, own in ((on_gpu, arm("papa")), (BASELINE, arm("papa", gpu=1.0))):
        assert conclusion(won, [baseline, own], "solo-long", None).endswith(
            "3 seeds, trained in part on other devices, so that costs cannot be compared."
        )
    some = arm("papa", gpu=1.0)
    some["seeds"]["2"] = arm("papa")["seeds"]["2"]
    assert conclusion(won, [on_gpu, some], "solo-long", None).endswith("costs cannot be compared.")


def test_without_a_baseline_it_is_said_why() -> None:
    failed = {**BASELINE, "seeds": {"1": {"error": "lower --lr"}, "2": {"error": "lower --lr"}}}
    assert conclusion([], [failed, arm("papa")], "solo-long", None) == (
        "solo-long failed under every seed, so there is nothing to compare with."
    )
    failed["seeds"]["2"] = None
    too_little = "Too little has come to an end for a comparison."
    papa = arm("papa")
    del papa["seeds"]["4"]
    assert conclusion([], [failed, papa], "solo-long", None) == too_little
    assert conclusion([], [BASELINE], "solo-long", None) == too_little
    assert conclusion([], [BASELINE, papa], "solo-long", None) == too_little
    papa["seeds"]["2"] = {"error": "lower --lr"}
    assert conclusion([], [BASELINE, papa], "solo-long", None) == (
        "All but solo-long failed under some seed, so there is nothing to compare."
    )


def test_what_is_not_done_is_told_first_and_is_what_to_do() -> None:
    papa = arm("papa")
    papa["seeds"]["3"] = None
    so_far = told([beside("papa", -0.01, shown=False, seeds=2)], papa)
    assert so_far == f"Not finished: of 8 seeds of arms 1 is left. {KEEP}, or go on."


def test_models_that_have_learned_nothing_are_told_apart_from_none() -> None:
    differences = [beside("papa", -0.01, shown=False)]
    arms = [BASELINE, arm("papa")]
    assert conclusion(differences, arms, "solo-long", 0.1) == (
        "No arm is above what is popular, recommended to everybody (0.1000): see to it first that "
        f"one model learns, with more --epochs or another --lr. {KEEP}."
    )
    assert conclusion(differences, arms, "solo-long", 0.0999) == f"{KEEP}."


def test_the_model_to_take_is_the_best_on_validation_of_the_arm_that_is_advised() -> None:
    result: dict[str, Any] = {
        "baseline": "solo-long",
        "arms": [baseline := arm("solo-long"), arm("papa"), arm("wide", parameters=400)],
        "differences": [beside("wide", 0.02, shown=True), beside("papa", 0.01, shown=True)],
    }
    assert advised_run(result) == "runs/papa/seed-2"
    result["differences"] = [beside("papa", 0.01, shown=False)]
    assert advised_run(result) == "runs/solo-long/seed-2"
    assert advised_run(result | {"differences": []}) is None
    # Nothing was learned.
    assert advised_run(result | {"popularity": 0.1}) is None
    assert advised_run(result | {"popularity": 0.05}) == "runs/solo-long/seed-2"
    # An earlier version has not written it down.
    for entry in baseline["seeds"].values():
        entry.pop("folder", None)
    assert advised_run(result) is None
