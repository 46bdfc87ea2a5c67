"""Which transplant a run does: the options, and the rule they describe."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Literal

from peercollab.command_line import unless_given
from peercollab.errors import PeercollabError
from peercollab.transplant.criteria import CriterionName
from peercollab.transplant.layers import LayerChoice
from peercollab.transplant.rules.average import Average
from peercollab.transplant.rules.layer_wise import LayerWise, Weighting
from peercollab.transplant.rules.none import NoExchange
from peercollab.transplant.rules.parameter_wise import ParameterWise
from peercollab.transplant.rules.rule import Rule

RuleName = Literal["layer-wise", "parameter-wise", "average", "none"]
RULES: dict[str, type[Rule]] = {
    rule.name: rule for rule in (LayerWise, ParameterWise, Average, NoExchange)
}
RULE_OPTIONS = ("criterion", "steepness", "bins", "weighting", "amplitude", "slope", "percent")

# Option, and the value that another option (with its default) must have for it to matter.
NEEDED = (
    ("steepness", "weighting", "sigmoid", "sigmoid"),
    ("amplitude", "weighting", "arctan", "sigmoid"),
    ("slope", "weighting", "arctan", "sigmoid"),
    ("bins", "criterion", "entropy", "entropy"),
)


@dataclass(frozen=True)
class TransplantOptions:
    """Exchange between peers. An option that the rule does not have is refused, not ignored."""

    rule: RuleName = "layer-wise"
    """How weights are given after each round."""
    layers: Annotated[LayerChoice | None, unless_given("all")] = None
    """Which layers take part."""
    criterion: Annotated[CriterionName | None, unless_given("entropy")] = None
    """Of layer-wise: what is measured of a layer."""
    steepness: Annotated[float | None, unless_given("30")] = None
    """Of layer-wise: how sharply a difference decides; 0 averages."""
    bins: Annotated[int | None, unless_given("10")] = None
    """Of entropy: equal-width bins between a layer's least and largest weight."""
    weighting: Annotated[Weighting | None, unless_given("sigmoid")] = None
    """Of layer-wise: from difference to share, as in PCRec (sigmoid) or filter grafting."""
    amplitude: Annotated[float | None, unless_given("0.4")] = None
    """Of arctan: how far from one half the share can be; 1 lets it reach 0 and 1."""
    slope: Annotated[float | None, unless_given("500")] = None
    """Of arctan: how sharply a difference decides."""
    percent: Annotated[float | None, unless_given("50")] = None
    """Of parameter-wise: percent of a weight's entries that are taken from the donor."""

    def __post_init__(self) -> None:
        self.build_rule()

    def build_rule(self) -> Rule:
        """The rule with its options.

        Raises
        ------
        PeercollabError
            An option is out of range, or the rule does not have it.
        """
        kind = RULES[self.rule]
        given = {name: value for name in RULE_OPTIONS if (value := getattr(self, name)) is not None}
        for name in sorted(given.keys() - _options_of(kind).keys()):
            owners = [other for other, of in RULES.items() if name in _options_of(of)]
            raise PeercollabError(
                f"--{name} has no effect with --rule {self.rule}: leave it out, "
                f"or take --rule {' or '.join(owners)}"
            )
        if self.layers is not None and not kind.exchanges:
            raise PeercollabError(f"--layers has no effect with --rule {self.rule}: leave it out")
        self._refuse_without_effect(given)
        return kind(**given)

    def _refuse_without_effect(self, given: Mapping[str, object]) -> None:
        """Refuse options that need another value of another option."""
        for name, option, needed, default in NEEDED:
            value = given.get(option, default)
            if name in given and value != needed:
                raise PeercollabError(
                    f"--{name} has no effect with --{option} {value}: leave it out, "
                    f"or take --{option} {needed}"
                )


def described(rule: type[Rule]) -> str:
    """A rule's name, what it does, its options with their defaults, and its source, in lines."""
    what = inspect.cleandoc(rule.__doc__ or "").partition("\n\n")[0].replace("`", "")
    options = [f"--{name} {default}" for name, default in _options_of(rule).items()]
    lines = [rule.name, f"  {what}"]
    if options:
        lines.append(f"  options: {', '.join(options)}")
    return "\n".join([*lines, f"  source: {rule.reference}"])


def _options_of(rule: type[Rule]) -> dict[str, object]:
    """A rule's options with their defaults."""
    return {field.name: field.default for field in fields(rule)} if is_dataclass(rule) else {}
