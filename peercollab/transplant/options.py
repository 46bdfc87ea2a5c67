"""Which transplant a run does: the options, and the rule they describe."""

import inspect
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import tyro

from peercollab.command_line import did_you_mean, flag, require_owned, unless_given
from peercollab.errors import PeercollabError
from peercollab.own_code import is_own
from peercollab.transplant.criteria import CriterionName
from peercollab.transplant.donors import Donors
from peercollab.transplant.exchange import Every, Timetable
from peercollab.transplant.layers import LayerChoice
from peercollab.transplant.rules.average import Average
from peercollab.transplant.rules.diloco import DiLoCo
from peercollab.transplant.rules.layer_wise import LayerWise, Weighting
from peercollab.transplant.rules.noise import Noise
from peercollab.transplant.rules.none import NoExchange
from peercollab.transplant.rules.own_rule import OwnRule
from peercollab.transplant.rules.papa import Papa
from peercollab.transplant.rules.parameter_wise import ParameterWise
from peercollab.transplant.rules.rule import Rule, Select
from peercollab.transplant.rules.sparta import Sparta
from peercollab.transplant.rules.wash import Wash

Moments = Literal["keep", "transplant", "reset"]

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        LayerWise,
        ParameterWise,
        Average,
        Noise,
        Papa,
        Wash,
        Sparta,
        DiLoCo,
        NoExchange,
        OwnRule,
    )
}


@dataclass(frozen=True)
class Transplant:
    """What peers and coordinator must know of the transplant: options with all defaults filled in.

    Attributes
    ----------
    rule
        Who gives what to whom, and how it is mixed.
    layers
        Which layers take part.
    every, first, last
        When exchanges happen, as in `Timetable`.
    moments
        What becomes of the optimizer's moments where weights change.
    align
        Whether donors' units are permuted to match the receiver's.
    select
        How a run ends.
    """

    rule: Rule
    layers: LayerChoice
    every: Every
    first: float
    last: float
    moments: Moments
    align: bool
    select: Select

    def timetable(self, steps: int, epochs: int) -> Timetable:
        """When peers exchange in a run of so many epochs of so many steps."""
        return Timetable(steps, epochs, self.every, self.rule.at_end, self.first, self.last)


@dataclass(frozen=True)
class TransplantOptions:
    """Exchange between peers. An option that the rule does not have is refused, not ignored."""

    rule: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(RULES) + "}")] = "layer-wise"
    """How weights are given from peer to peer; `peercollab rules` says what each does."""
    layers: Annotated[LayerChoice | None, unless_given("all")] = None
    """Which layers take part."""
    donors: Annotated[Donors | None, unless_given("ring")] = None
    """Of layer rules: from whom each receives; with two peers all are the same."""
    criterion: Annotated[CriterionName | None, unless_given("entropy")] = None
    """Of layer rules: what is measured of a layer, to decide shares or donors."""
    bins: Annotated[int | None, unless_given("10")] = None
    """Of entropy: equal-width bins between a layer's least and largest weight."""
    steepness: Annotated[float | None, unless_given("30")] = None
    """Of layer-wise: how sharply a difference decides; 0 averages."""
    weighting: Annotated[Weighting | None, unless_given("sigmoid")] = None
    """Of layer-wise: from difference to share, as in PCRec (sigmoid) or filter grafting."""
    amplitude: Annotated[float | None, unless_given("0.4")] = None
    """Of arctan: how far from one half the share can be; 1 lets it reach 0 and 1."""
    slope: Annotated[float | None, unless_given("500")] = None
    """Of arctan: how sharply a difference decides."""
    percent: Annotated[float | None, unless_given("50")] = None
    """Of parameter-wise and noise: percent of a weight's entries that are taken or disturbed."""
    noise_rate: Annotated[float | None, unless_given("0.05")] = None
    """Of noise: its standard deviation in the first period, and the factor from one to the next."""
    noise_period: Annotated[int | None, unless_given("30")] = None
    """Of noise: epochs of a period."""
    factor: Annotated[float | None, unless_given("0.99")] = None
    """Of papa: share of its own that a peer keeps at each pull towards the mean."""
    share: Annotated[float | None, unless_given("0.01 for wash, 0.005 for sparta")] = None
    """Of wash and sparta: share of all entries that is exchanged each time."""
    outer_lr: Annotated[float | None, unless_given("0.7")] = None
    """Of diloco: learning rate of the outer steps."""
    outer_momentum: Annotated[float | None, unless_given("0.9")] = None
    """Of diloco: momentum of the outer steps."""
    exchange_every: Annotated[Every | None, unless_given("as the rule says, mostly epoch")] = None
    """epoch, or a number of steps, at most an epoch."""
    exchange_from: Annotated[float | None, unless_given("0")] = None
    """Share of the run, of --epochs, before which nothing is exchanged."""
    exchange_until: Annotated[float | None, unless_given("1")] = None
    """Share of the run after which nothing is exchanged."""
    moments: Annotated[Moments | None, unless_given("keep")] = None
    """Adam's moments: keep the peer's own, transplant with the weights, reset where they change."""
    align: bool = False
    """Permute a donor's units to match the receiver's before they are mixed."""
    select: Annotated[Select | None, unless_given("best, or as the rule says")] = None
    """What is kept: the best state of any peer, or the average of all peers' best ones; a greedy
    soup takes in a peer only if validation rises."""

    COMMON: ClassVar = ("exchange_every", "exchange_from", "exchange_until", "layers", "moments")

    def __post_init__(self) -> None:
        self._require_choices()
        self.build()

    def build(self) -> Transplant:
        """The options with the rule's defaults filled in, the same object at every call.

        A rule in a file of the user's is read once, when the options are made.

        Raises
        ------
        PeercollabError
            An option is out of range, or the rule does not have it.
        """
        return self._built

    @cached_property
    def _built(self) -> Transplant:
        rule = self._build_rule()
        if not rule.exchanges:
            for name in self.COMMON:
                if getattr(self, name) is not None:
                    raise PeercollabError(
                        f"{flag(name)} has no effect with --rule {self.rule}: leave it out"
                    )
        if self.align and not rule.aligns:
            raise PeercollabError(
                f"--align has no effect with --rule {self.rule}: leave it out, or take a rule that "
                "mixes whole layers"
            )
        if self.moments == "transplant" and not rule.moments_travel:
            raise PeercollabError(
                f"--moments transplant is not possible with --rule {self.rule}, which says nothing "
                "of moments: take keep or reset"
            )
        self._require_window()
        return Transplant(
            rule=rule,
            layers=self.layers or "all",
            every=rule.every if self.exchange_every is None else self.exchange_every,
            first=self.exchange_from or 0.0,
            last=1.0 if self.exchange_until is None else self.exchange_until,
            moments=self.moments or "keep",
            align=self.align,
            select=self.select or rule.select,
        )

    def _build_rule(self) -> Rule:
        kind = OwnRule if is_own(self.rule) else RULES.get(self.rule)
        if kind is None or self.rule == OwnRule.name:
            raise PeercollabError(
                f"--rule is {self.rule!r}: take one of {', '.join(RULES)}"
                f"{did_you_mean(self.rule, list(RULES))}"
            )
        given = {name: value for name in RULE_OPTIONS if (value := getattr(self, name)) is not None}
        owned = {name: options_of(of) for name, of in RULES.items()}
        require_owned(given, "--rule", self.rule, owned | {self.rule: options_of(kind)})
        rule = OwnRule.from_file(self.rule, **given) if kind is OwnRule else kind(**given)
        for name, remedy in rule.idle().items():
            if name in given:
                raise PeercollabError(
                    f"{flag(name)} has no effect with the other options: leave it out, or take "
                    f"{remedy}"
                )
        return rule

    def _require_choices(self) -> None:
        """Refuse words that are none of an option's, as the command line does."""
        for name, hint in get_type_hints(TransplantOptions).items():
            value, words = getattr(self, name, None), _words_of(hint)
            if words and isinstance(value, str) and value not in words:
                raise PeercollabError(
                    f"{flag(name)} is {value!r}: take one of {', '.join(words)}"
                    f"{did_you_mean(value, words)}"
                )

    def _require_window(self) -> None:
        every = self.exchange_every
        if every not in (None, "epoch") and not (type(every) is int and every >= 1):
            raise PeercollabError(
                f"--exchange-every is {self.exchange_every}: give 1 or more steps, or epoch"
            )
        for name in ("exchange_from", "exchange_until"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise PeercollabError(f"{flag(name)} is {value}: give a share from 0 to 1")
        first, last = self.exchange_from or 0.0, self.exchange_until
        if last is not None and first > last:
            raise PeercollabError(
                f"--exchange-from {first:g} is after --exchange-until {last:g}: nothing would be "
                "exchanged; take --rule none for that"
            )


def _words_of(hint: Any) -> list[str]:
    """The words that a type of an option allows; none where it is no choice."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [word for part in get_args(hint) for word in _words_of(part)]


def described(rule: type[Rule]) -> str:
    """A rule's name, what it does, its options with their defaults, and its source, in lines."""
    what, _, _ = inspect.cleandoc(rule.__doc__ or "").partition("\n\nAttributes\n")
    what = " ".join(what.replace("`", "").split())
    options = [f"{flag(name)} {default}" for name, default in options_of(rule).items()]
    lines = [rule.name, f"  {what}"]
    if options:
        lines.append(f"  options: {', '.join(options)}")
    if rule.exchanges:
        lines.append(f"  by itself: {_habits(rule)}")
    return "\n".join([*lines, f"  source: {rule.reference}"])


def options_of(rule: type[Rule]) -> dict[str, Any]:
    """A rule's options with their defaults."""
    return {field.name: field.default for field in fields(rule) if field.name in RULE_OPTIONS}


def _habits(rule: type[Rule]) -> str:
    every = "epoch" if rule.every == "epoch" else f"{rule.every} steps"
    every += " and at each epoch's end" if rule.at_end else ""
    start = "shared" if rule.shared_start else "own"
    return (
        f"exchanges every {every.replace('1 steps', 'step')}; --init {start}; "
        f"--select {rule.select}; ranks the state {rule.ranked} the exchange (under --ema and "
        "--swa the average)"
    )


_FIELDS_OF_RULES = {field.name for rule in RULES.values() for field in fields(rule)}
RULE_OPTIONS = tuple(
    field.name for field in fields(TransplantOptions) if field.name in _FIELDS_OF_RULES
)
