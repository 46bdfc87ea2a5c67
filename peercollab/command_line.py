"""Between tyro and the command line: defaults in words, and errors in one or two lines."""

import io
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stderr
from difflib import get_close_matches
from typing import Any

import tyro

from peercollab.errors import PeercollabError

_MARKERS = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.DisallowNone,
)


def unless_given(default: str) -> Any:
    """For an option whose default is None: what the help says happens then."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {default})")


def flag(name: str) -> str:
    """An option's name in Python as it is on the command line."""
    return f"--{name.replace('_', '-')}"


def require_owned(
    given: Collection[str], option: str, chosen: str, options_of: Mapping[str, Collection[str]]
) -> None:
    """Refuse options that are given and that a choice does not have.

    Parameters
    ----------
    given
        Names in Python of what is given.
    option, chosen
        Where the choice was made, such as ``--rule``, and what was chosen.
    options_of
        Of every choice the options that it has, the chosen one's among them.

    Raises
    ------
    PeercollabError
        There is one: those that have it are named.
    """
    for name in sorted(set(given) - set(options_of[chosen])):
        owners = [other for other, of in options_of.items() if name in of]
        raise PeercollabError(
            f"{flag(name)} has no effect with {option} {chosen}: leave it out, or take {option} "
            f"{' or '.join(owners)}"
        )


def parse(commands: Any, arguments: Sequence[str], command: str, default: Any = None) -> Any:
    """The command that the arguments describe: an instance of one of the dataclasses.

    With a `default`, what the arguments do not say is as it is there. A message points to the help
    of `command`.

    Raises
    ------
    PeercollabError
        The arguments are wrong: tyro's panel, told in a line.
    SystemExit
        Help was asked for, and printed.
    """
    panel = io.StringIO()
    try:
        with redirect_stderr(panel):
            return tyro.cli(
                commands,
                prog="peercollab",
                args=arguments,
                default=tyro.MISSING_NONPROP if default is None else default,
                config=_MARKERS,
            )
    except SystemExit as error:
        if not error.code:
            raise
        raise PeercollabError(_in_a_line(panel.getvalue(), command)) from None


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """What an option is given as, before the whole is parsed; None if it is not there."""
    value = None
    for at, word in enumerate(arguments):
        if word == option:
            value = next(iter(arguments[at + 1 :]), None)
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def _in_a_line(panel: str, command: str) -> str:
    """What tyro's panel says first, with the nearest word where one was mistyped."""
    # A title, then sections between rules. The frame is drawn with lines, or with blanks and
    # dashes where output is not UTF-8, and then there is a rule under the title too.
    _, _, body = panel.partition("\n")
    text = re.sub(r"[│╰╯\s]+", " ", body)
    sections = [section.strip() for section in re.split(r"─{5,}|-{5,}", text) if section.strip()]
    said = sections[0].rstrip(".")
    if choice := re.search(
        r"choice '(.*?)' for argument '(--\S+)'\. Expected one of \((.*)\)", said
    ):
        return _not_a_choice(choice[2], choice[1], choice[3])
    # Of an option that may be left out, tyro tells how each of its types failed.
    if choice := re.search(r"parsing (--\S+): .*\['(.*)'\] does not match choices \((.*)\)", said):
        return _not_a_choice(choice[1], choice[2], choice[3], number="<class 'int'>" in said)
    said, _, _ = said.partition(". Got errors:")
    rest = " ".join(sections[1:])
    return f"{said}{_nearest_name(said, rest)} (see peercollab {command} --help)"


def _not_a_choice(option: str, wrong: str, listed: str, *, number: bool = False) -> str:
    choices = sorted(set(re.findall(r"'(.*?)'", listed)) - {"None"})
    names = ["a number", *choices] if number else choices
    return f"{option} is {wrong!r}: take one of {', '.join(names)}{did_you_mean(wrong, choices)}"


def _nearest_name(said: str, rest: str) -> str:
    """Of an option that does not exist, the nearest that does."""
    unknown = re.search(r"Unrecognized options: (\S+?),?(?: |$)", said)
    if not unknown:
        return ""
    return did_you_mean(unknown[1], re.findall(r"--[\w-]+", rest))


def did_you_mean(wrong: str, right: Sequence[str]) -> str:
    """Of a word that is none of the right ones, the nearest of them: the end of a message."""
    near = get_close_matches(wrong, [word for word in right if word != wrong], n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
