"""Between tyro and the command line: defaults in words, and errors in one or two lines."""

import io
import re
from collections.abc import Sequence
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


def parse(commands: Any, arguments: Sequence[str]) -> Any:
    """The command that the arguments describe: an instance of one of the dataclasses.

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
            return tyro.cli(commands, prog="peercollab", args=arguments, config=_MARKERS)
    except SystemExit as error:
        if not error.code:
            raise
        raise PeercollabError(_in_a_line(panel.getvalue())) from None


def _in_a_line(panel: str) -> str:
    """What tyro's panel says first, with the nearest word where one was mistyped."""
    # The frame's title line goes; the sections between its rules become lines.
    lines = [line.strip("│ ") for line in panel.splitlines() if line[:1] == "│"]
    sections = [
        re.sub(r"\s+", " ", section).strip() for section in re.split(r"─{5,}", " ".join(lines))
    ]
    said = sections[0].rstrip(".")
    # Of an option that may be left out, tyro tells how each of its types failed.
    said = re.sub(
        r"Error parsing (\S+): .*\['(.*)'\] does not match choices",
        r"invalid choice '\2' for argument '\1'. Expected one of",
        said,
    ).split(". Got errors:")[0]
    rest = " ".join(sections[1:])
    return f"{said}{_nearest(said, rest)} (see peercollab --help)"


def _nearest(said: str, rest: str) -> str:
    """``; did you mean …?``, from what tyro lists, or nothing."""
    if choice := re.search(r"invalid choice '(.*?)' .*Expected one of \((.*)\)", said):
        wrong, right = choice[1], re.findall(r"'(.*?)'", choice[2])
    elif unknown := re.search(r"Unrecognized options: (\S+?),?(?: |$)", said):
        commands = re.search(r"Available subcommands: ([\w, -]+)", rest)
        wrong = unknown[1]
        right = commands[1].split(", ") if commands else re.findall(r"--[\w-]+", rest)
    else:
        return ""
    near = get_close_matches(wrong, [word for word in right if word != wrong], n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
