"""Arms of a comparison: ways to come to a model, each one training or several that end as one."""

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from peercollab.command_line import did_you_mean, parse
from peercollab.config_file import expanded
from peercollab.errors import PeercollabError
from peercollab.models.own_model import OwnModelOptions
from peercollab.options import TrainOptions
from peercollab.resume import flat_options
from peercollab.transplant.options import RULES
from peercollab.transplant.rules.none import NoExchange
from peercollab.transplant.rules.own_rule import OwnRule

Ending = Literal["best", "uniform-soup", "greedy-soup", "ensemble"]

ALONE = "--peers 1 --rule none"

# They become folders.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# Names that trainings of `Recipe.member` and of a search have.
MEMBER = re.compile(r"solo(-shared)?-\d+|solo-shared|.*\.t\d+")

# What an arm cannot tell anew, as it would be judged on something else than the others.
COMMON = {
    "--out": "out",
    "--resume": "resume",
    "--overwrite": "overwrite",
    "--data": "data",
    "--seed": "training.seed",
    "--keep-seen": "training.keep_seen",
    "options of reading": "read",
    "options of preparing": "prepare",
    "--executor": "execution.executor",
    "--device": "execution.device",
    "--threads-per-peer": "execution.threads_per_peer",
    "--gpus-per-peer": "execution.gpus_per_peer",
}


@dataclass(frozen=True)
class Recipe:
    """An arm that has a name.

    Attributes
    ----------
    what
        What it is, in words.
    options
        Options of `train`, besides those that all arms have.
    longer
        Whether it trains as long as all peers of an arm with peers together.
    member
        With an ending: what one of its trainings is called.
    ending
        What becomes of as many trainings as there are peers; None for one training.
    """

    what: str
    options: str
    longer: bool = False
    member: str = ""
    ending: Ending | None = None


RECIPES: Mapping[str, Recipe] = {
    "solo": Recipe("one model", ALONE),
    "solo-long": Recipe(
        "one model, N times the epochs and the patience: the compute of N peers", ALONE, longer=True
    ),
    "ema": Recipe("one model, whose moving average is kept", f"{ALONE} --ema 0.999"),
    "swa": Recipe("one model, kept as the mean of five epochs' ends", f"{ALONE} --swa 5"),
    "best-of-n": Recipe(
        "N models, the best of them on validation", ALONE, member="solo", ending="best"
    ),
    "soup": Recipe("the mean of N models", ALONE, member="solo", ending="uniform-soup"),
    "soup-greedy": Recipe(
        "the mean of those of N models that help on validation",
        ALONE,
        member="solo",
        ending="greedy-soup",
    ),
    "soup-shared": Recipe(
        "the mean of N models with the same start",
        f"{ALONE} --init shared",
        member="solo-shared",
        ending="uniform-soup",
    ),
    "soup-shared-greedy": Recipe(
        "the mean of those of N models with the same start that help on validation",
        f"{ALONE} --init shared",
        member="solo-shared",
        ending="greedy-soup",
    ),
    "ensemble": Recipe(
        "N models that all serve, their scores added up",
        ALONE,
        member="solo",
        ending="ensemble",
    ),
} | {
    name: Recipe(f"N peers under --rule {name}", f"--rule {name}")
    for name, rule in RULES.items()
    if rule not in (NoExchange, OwnRule)
}


@dataclass(frozen=True)
class Training:
    """A run as one seed of an arm needs it, but for seed and folder.

    Attributes
    ----------
    name
        Of its folder; the same name is the same training.
    options
        What it is trained with; out and seed mean nothing yet.
    stream
        The random numbers of a model that trains alone; None where peers have their own.
    """

    name: str
    options: TrainOptions
    stream: int | None


@dataclass(frozen=True)
class Arm:
    """One way to come to a model.

    Attributes
    ----------
    name, what
        Its name, and what it is.
    text
        As it was asked for: what its options are besides those of all.
    trainings
        What it needs for a seed: one, or several that come to one end.
    ending
        That end; None where there is one training.
    mark
        Behind the names of all that is trained under changed options; empty without any.
    """

    name: str
    what: str
    text: str
    trainings: tuple[Training, ...]
    ending: Ending | None
    mark: str = ""

    @property
    def told(self) -> str:
        """As it is asked for on the command line."""
        return self.name if self.name in RECIPES else f"{self.name}={self.text}"

    @property
    def trained_with(self) -> dict[str, Any]:
        """All that decides what comes of a training, and the text of the user's own files."""
        options = self.trainings[0].options
        rule, model = options.transplant.build().rule, options.model.build()
        parts = {
            "model": asdict(options.model),
            "training": asdict(options.training),
            "transplant": asdict(options.transplant),
            "diversity": asdict(options.diversity),
            "peers": options.execution.peers,
        }
        return {
            f"--{name.replace('_', '-')}": value for name, value in flat_options(parts).items()
        } | {
            f"text of --{whose}": hashlib.sha256(own.source.encode()).hexdigest()
            for whose, own in (("rule", rule), ("model", model))
            if isinstance(own, OwnRule | OwnModelOptions)
        }

    @property
    def inference_cost(self) -> int:
        """Models that are asked to rank for a user."""
        return len(self.trainings) if self.ending == "ensemble" else 1


def make_arm(told: str, base: TrainOptions, changes: Sequence[str] = (), mark: str = "") -> Arm:
    """The arm that a name, or ``NAME=OPTIONS``, describes.

    Parameters
    ----------
    told
        As on the command line.
    base
        What all arms have, unless they say otherwise; its peers are N.
    changes
        More options, of which the arm's own win.
    mark
        Behind the names of its trainings, so that they differ from those without changes.

    Raises
    ------
    PeercollabError
        There is no arm of that name, the name is taken or no name for a folder, or its options
        are wrong or would make it judged on something else.
    """
    name, is_own, text = told.partition("=")
    if is_own:
        _require_free(name)
        recipe = Recipe(f"train {text}".strip(), text)
    elif name in RECIPES:
        recipe = RECIPES[name]
    else:
        raise PeercollabError(
            f"--arms: {name!r} is no arm: take {', '.join(RECIPES)}, or NAME=OPTIONS such as "
            f"'wide=--hidden-size 256'{did_you_mean(name, list(RECIPES))}"
        )
    words = _words(name, recipe.options)
    if {"-h", "--help"} & set(words):
        raise PeercollabError(f"arm {name}: for help, ask peercollab train --help")
    options = _options(name, [*changes, *words], base)
    if recipe.longer:
        options = _longer(options, base.execution.peers)
    if recipe.ending is None:
        alone = 1 if options.execution.peers == 1 else None
        trainings = [Training(f"{name}{mark}", options, alone)]
    else:
        trainings = [
            Training(f"{_member(recipe.member, stream)}{mark}", options, stream)
            for stream in range(1, base.execution.peers + 1)
        ]
    return Arm(name, recipe.what, text, tuple(trainings), recipe.ending, mark)


def own_options(told: str) -> set[str]:
    """The options that an arm states itself, such as ``--lr``, those of its preset or file too."""
    name, _, text = told.partition("=")
    words = _words(name, text or (RECIPES[name].options if name in RECIPES else ""))
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    # Both are understood.
    return {option.replace("_", "-") for option in options}


def _words(name: str, text: str) -> list[str]:
    """An arm's options one by one, with those of a preset or a file in its place."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise PeercollabError(f"arm {name}: {text!r} is cut short: {error}") from error
    return expanded(words)


def _require_free(name: str) -> None:
    if not NAME.fullmatch(name):
        raise PeercollabError(
            f"--arms: {name!r} cannot be the name of an arm: take letters, digits, dots and dashes"
        )
    if name in RECIPES or MEMBER.fullmatch(name):
        raise PeercollabError(
            f"--arms: {name} has a meaning of its own: give your arm another name"
        )


def _options(name: str, words: Sequence[str], base: TrainOptions) -> TrainOptions:
    try:
        options: TrainOptions = parse(TrainOptions, words, "train", default=base)
    except PeercollabError as error:
        raise PeercollabError(f"arm {name}: {error}") from error
    for option, path in COMMON.items():
        if _value(options, path) != _value(base, path):
            raise PeercollabError(
                f"arm {name}: all arms have the same {option.removeprefix('--')}: give {option} "
                "outside of the arm"
            )
    return options


def _value(options: TrainOptions, path: str) -> object:
    value: object = options
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _longer(options: TrainOptions, times: int) -> TrainOptions:
    training = options.training
    return replace(
        options,
        training=replace(
            training, epochs=times * training.epochs, patience=times * training.patience
        ),
    )


def _member(name: str, stream: int) -> str:
    return name if stream == 1 else f"{name}-{stream}"
