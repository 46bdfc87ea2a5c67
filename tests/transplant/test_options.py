"""Options of a transplant: each one counts or is refused."""

import math
from typing import Any, get_type_hints

import pytest

from peercollab.errors import PeercollabError
from peercollab.transplant.options import (
    RULE_OPTIONS,
    RULES,
    TransplantOptions,
    described,
    options_of,
)
from peercollab.transplant.rules.layer_wise import LayerWise
from peercollab.transplant.rules.own_rule import OwnRule
from peercollab.transplant.rules.parameter_wise import ParameterWise
from peercollab.transplant.rules.rule import Rule


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({}, LayerWise(criterion="entropy", steepness=30.0)),
        ({"criterion": "l1-norm"}, LayerWise(criterion="l1-norm", steepness=30.0)),
        ({"steepness": 0.0}, LayerWise(criterion="entropy", steepness=0.0)),
        ({"criterion": "l2-norm"}, LayerWise(criterion="l2-norm", steepness=30.0)),
        ({"bins": 20}, LayerWise(bins=20)),
        (
            {"weighting": "arctan", "amplitude": 0.3, "slope": 9.0},
            LayerWise(weighting="arctan", amplitude=0.3, slope=9.0),
        ),
        ({"rule": "parameter-wise"}, ParameterWise(percent=50.0)),
        ({"rule": "parameter-wise", "percent": 0.0}, ParameterWise(percent=0.0)),
        ({"rule": "parameter-wise", "percent": 100.0}, ParameterWise(percent=100.0)),
    ],
)
def test_options_become_the_rules_own(given: dict[str, Any], rule: Rule) -> None:
    assert TransplantOptions(**given).build().rule == rule


def test_every_rule_is_built_by_its_name() -> None:
    assert list(RULES) == [
        "layer-wise", "parameter-wise", "average", "noise", "papa", "wash", "sparta", "diloco",
        "none", "path/to/file.py:name",
    ]  # fmt: skip
    for name, kind in RULES.items():
        if kind is not OwnRule:
            assert type(TransplantOptions(rule=name).build().rule) is kind


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("layerwise", "layer-wise"),
        ("papas", "papa"),
        ("wahs", "wash"),
        ("parameter", "parameter-wise"),
    ],
)
def test_an_unknown_rule_is_refused_with_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(PeercollabError, match=rf"^--rule is '{wrong}': .*did you mean {meant}\?$"):
        TransplantOptions(rule=wrong)


def test_the_name_in_the_help_is_no_rule_itself() -> None:
    with pytest.raises(PeercollabError, match="take one of"):
        TransplantOptions(rule=OwnRule.name)


@pytest.mark.parametrize(
    ("given", "option", "owner"),
    [
        ({"percent": 50.0}, "--percent", "parameter-wise"),
        ({"rule": "parameter-wise", "steepness": 30.0}, "--steepness", "layer-wise"),
        ({"rule": "papa", "criterion": "entropy"}, "--criterion", "layer-wise"),
        ({"rule": "wash", "donors": "best"}, "--donors", "average"),
        ({"share": 0.1}, "--share", "wash or sparta"),
        ({"rule": "sparta", "factor": 0.9}, "--factor", "papa"),
        ({"rule": "papa", "outer_lr": 0.9}, "--outer-lr", "diloco"),
        ({"noise_period": 3}, "--noise-period", "noise"),
        ({"rule": "average", "steepness": 0.0}, "--steepness", "layer-wise"),
        ({"rule": "average", "percent": 0.0}, "--percent", "parameter-wise"),
        ({"rule": "none", "criterion": "l1-norm"}, "--criterion", "layer-wise"),
    ],
)
def test_an_option_the_rule_does_not_have_is_refused_by_name(
    given: dict[str, Any], option: str, owner: str
) -> None:
    with pytest.raises(PeercollabError) as caught:
        TransplantOptions(**given)
    message = str(caught.value)
    assert message.startswith(
        f"{option} has no effect with --rule {given.get('rule', 'layer-wise')}"
    )
    assert owner in message.split("take --rule ", 1)[1]


@pytest.mark.parametrize(
    ("given", "option", "remedy"),
    [
        ({"bins": 20, "criterion": "l1-norm"}, "--bins", "--criterion entropy"),
        ({"rule": "average", "criterion": "l1-norm"}, "--criterion", "--donors best or mean"),
        ({"rule": "parameter-wise", "bins": 5}, "--bins", "--donors best or mean"),
        (
            {"rule": "average", "donors": "best", "criterion": "l2-norm", "bins": 5},
            "--bins",
            "--criterion entropy",
        ),
        ({"slope": 9.0}, "--slope", "--weighting arctan"),
        ({"amplitude": 0.2}, "--amplitude", "--weighting arctan"),
        ({"steepness": 3.0, "weighting": "arctan"}, "--steepness", "--weighting sigmoid"),
    ],
)
def test_an_option_that_another_one_switches_off_is_refused_by_name(
    given: dict[str, Any], option: str, remedy: str
) -> None:
    with pytest.raises(PeercollabError, match=rf"^{option} has no effect with .*{remedy}$"):
        TransplantOptions(**given)


@pytest.mark.parametrize(
    "given",
    [{"bins": 1}, {"bins": 0}]
    + [{"weighting": "arctan", "amplitude": value} for value in (-0.1, 1.1, math.nan)]
    + [{"weighting": "arctan", "slope": value} for value in (-1.0, math.nan, math.inf)],
)
def test_values_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(PeercollabError, match=rf"^--{list(given)[-1]} is .*: give "):
        TransplantOptions(**given)


@pytest.mark.parametrize("rule", RULES.values())
def test_a_description_names_the_rule_its_options_and_its_source(rule: type[Rule]) -> None:
    head, *rest = described(rule).splitlines()
    assert head == rule.name
    assert rest[-1] == f"  source: {rule.reference}"
    options = [line for line in rest if line.startswith("  options: ")]
    own = {name.replace("_", "-") for name in RULE_OPTIONS if hasattr(rule, name)}
    assert {word[2:] for line in options for word in line.split() if word[:2] == "--"} == own


@pytest.mark.parametrize(
    "given",
    [
        {"layers": "all"},
        {"moments": "reset"},
        {"exchange_every": 3},
        {"exchange_from": 0.1},
        {"exchange_until": 0.9},
        {"align": True},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_concerns_exchanges_is_refused_where_nothing_is_exchanged(given: Any) -> None:
    flag = "--" + next(iter(given)).replace("_", "-")
    with pytest.raises(PeercollabError, match=rf"^{flag} has no effect with --rule none"):
        TransplantOptions(rule="none", **given)


@pytest.mark.parametrize("rule", ["noise", "wash", "sparta", "diloco"])
def test_units_are_aligned_only_where_whole_layers_are_mixed(rule: str) -> None:
    with pytest.raises(PeercollabError, match=r"^--align has no effect"):
        TransplantOptions(rule=rule, align=True)


def test_moments_travel_only_with_weights_that_do() -> None:
    with pytest.raises(PeercollabError, match=r"^--moments transplant is not possible .* noise"):
        TransplantOptions(rule="noise", moments="transplant")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"exchange_every": 0}, "--exchange-every is 0: give 1 or more steps, or epoch"),
        ({"exchange_every": -5}, "--exchange-every is -5"),
        ({"exchange_from": -0.1}, "--exchange-from is -0.1: give a share"),
        ({"exchange_until": 1.5}, "--exchange-until is 1.5: give a share"),
        ({"exchange_until": math.nan}, "--exchange-until is nan: give a share"),
        ({"exchange_from": 0.6, "exchange_until": 0.5}, "--exchange-from 0.6 is after"),
        ({"rule": "papa", "factor": 1.1}, "--factor is 1.1"),
        ({"rule": "wash", "share": 0.0}, "--share is 0.0"),
        ({"rule": "sparta", "share": 1.01}, "--share is 1.01"),
        ({"rule": "diloco", "outer_lr": 0.0}, "--outer-lr is 0.0"),
        ({"rule": "diloco", "outer_momentum": 1.0}, "--outer-momentum is 1.0"),
        ({"rule": "noise", "noise_rate": -1.0}, "--noise-rate is -1.0"),
        ({"rule": "noise", "noise_period": 0}, "--noise-period is 0"),
        ({"rule": "noise", "percent": 101.0}, "--percent is 101"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_values_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PeercollabError) as caught:
        TransplantOptions(**given)
    assert str(caught.value).startswith(message)


# Steps between exchanges, how the run ends, whether all begin alike, which state is ranked.
HABITS = {
    "papa": (10, "greedy-soup", False, "after"),
    "wash": (1, "uniform-soup", True, "after"),
    "sparta": (1, "best", True, "after"),
    "diloco": (500, "best", True, "after"),
    **dict.fromkeys(
        ("layer-wise", "parameter-wise", "average", "noise", "none"),
        ("epoch", "best", False, "before"),
    ),
}


@pytest.mark.parametrize("rule", [name for name in RULES if name != OwnRule.name])
def test_a_rule_brings_its_own_habits(rule: str) -> None:
    built = TransplantOptions(rule=rule).build()
    assert (built.every, built.select, built.rule.shared_start, built.rule.ranked) == HABITS[rule]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"donors": "worst"}, "--donors is 'worst': take one of ring, best, random, mean"),
        ({"weighting": "foo"}, "--weighting is 'foo': take one of sigmoid, arctan"),
        ({"criterion": "entropie"}, "did you mean entropy?"),
        ({"moments": "kept"}, "did you mean keep?"),
        ({"layers": "middel"}, "did you mean middle?"),
        ({"select": "soup"}, "--select is 'soup': take one of best, uniform-soup, greedy-soup"),
        ({"exchange_every": 2.5}, "--exchange-every is 2.5"),
        ({"exchange_every": True}, "--exchange-every is True"),
        ({"exchange_every": "step"}, "--exchange-every is 'step': take one of epoch"),
        ({"bins": 10**9}, "--bins is 1000000000: give 2 to 10,000"),
    ],
)
def test_what_python_may_say_is_what_the_command_line_may(given: dict[str, Any], said: str) -> None:
    with pytest.raises(PeercollabError) as caught:
        TransplantOptions(**given)
    assert said in str(caught.value)


def test_options_come_before_a_rules_habits() -> None:
    other = TransplantOptions(rule="papa", exchange_every="epoch", select="best").build()
    assert (other.every, other.select) == ("epoch", "best")
    published = TransplantOptions().build()
    assert (published.every, published.select, published.moments) == ("epoch", "best", "keep")
    assert published.rule.ranked == "before"


@pytest.mark.parametrize("percent", [120.0, -0.1, 100.1, math.nan, math.inf, -math.inf])
def test_a_percent_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(PeercollabError, match=r"^--percent is ") as caught:
        TransplantOptions(rule="parameter-wise", percent=percent)
    assert f"{percent:g}" in str(caught.value)


@pytest.mark.parametrize("steepness", [-1.0, math.nan, math.inf, -math.inf])
def test_a_steepness_out_of_range_is_refused(steepness: float) -> None:
    with pytest.raises(PeercollabError, match=r"^--steepness is ") as caught:
        TransplantOptions(steepness=steepness)
    assert str(steepness) in str(caught.value)


def test_the_help_gives_the_defaults_that_the_rules_have() -> None:
    for name, annotation in get_type_hints(TransplantOptions, include_extras=True).items():
        defaults = {options_of(rule)[name] for rule in RULES.values() if name in options_of(rule)}
        for hint in getattr(annotation, "__metadata__", ()):
            if defaults and getattr(hint, "help_behavior_hint", None):
                for default in defaults:
                    told = f"{default:g}" if isinstance(default, float) else str(default)
                    assert told in hint.help_behavior_hint, name


def test_the_description_ties_each_letter_of_a_formula_to_its_option() -> None:
    assert "steepness a" in described(RULES["layer-wise"])
    assert "every 500 steps and at each epoch's end" in described(RULES["diloco"])
