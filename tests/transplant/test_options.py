"""Options of a transplant: each one counts or is refused."""

import math
from typing import Any

import pytest

from peercollab.errors import PeercollabError
from peercollab.transplant.options import RULE_OPTIONS, RULES, TransplantOptions, described
from peercollab.transplant.rules.average import Average
from peercollab.transplant.rules.layer_wise import LayerWise
from peercollab.transplant.rules.none import NoExchange
from peercollab.transplant.rules.parameter_wise import ParameterWise
from peercollab.transplant.rules.rule import Rule


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({}, LayerWise("entropy", 30.0)),
        ({"criterion": "l1-norm"}, LayerWise("l1-norm", 30.0)),
        ({"steepness": 0.0}, LayerWise("entropy", 0.0)),
        ({"criterion": "l2-norm"}, LayerWise("l2-norm", 30.0)),
        ({"bins": 20}, LayerWise(bins=20)),
        (
            {"weighting": "arctan", "amplitude": 0.3, "slope": 9.0},
            LayerWise(weighting="arctan", amplitude=0.3, slope=9.0),
        ),
        ({"rule": "parameter-wise"}, ParameterWise(50.0)),
        ({"rule": "parameter-wise", "percent": 0.0}, ParameterWise(0.0)),
        ({"rule": "parameter-wise", "percent": 100.0}, ParameterWise(100.0)),
    ],
)
def test_options_become_the_rules_own(given: dict[str, Any], rule: Rule) -> None:
    assert TransplantOptions(**given).build_rule() == rule


def test_every_rule_is_built_by_its_name() -> None:
    assert {
        "layer-wise": LayerWise,
        "parameter-wise": ParameterWise,
        "average": Average,
        "none": NoExchange,
    } == RULES
    assert isinstance(TransplantOptions(rule="average").build_rule(), Average)
    assert isinstance(TransplantOptions(rule="none").build_rule(), NoExchange)


@pytest.mark.parametrize(
    ("given", "option", "owner"),
    [
        ({"percent": 50.0}, "--percent", "parameter-wise"),
        ({"rule": "parameter-wise", "steepness": 30.0}, "--steepness", "layer-wise"),
        ({"rule": "parameter-wise", "criterion": "entropy"}, "--criterion", "layer-wise"),
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
    assert f"--rule {owner}" in message.split(":", 1)[1]


@pytest.mark.parametrize(
    ("given", "option", "remedy"),
    [
        ({"bins": 20, "criterion": "l1-norm"}, "--bins", "--criterion entropy"),
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
    own = {name for name in RULE_OPTIONS if hasattr(rule, name)}
    assert {word[2:] for line in options for word in line.split() if word[:2] == "--"} == own


def test_layers_are_refused_where_nothing_is_exchanged() -> None:
    with pytest.raises(PeercollabError, match=r"^--layers has no effect with --rule none"):
        TransplantOptions(rule="none", layers="all")


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
