"""What ``./scripts/submit`` takes."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from peercollab.cli import Command
from peercollab.command_line import parse, value_of
from peercollab.config_file import expanded
from peercollab.data.demo import DEMO
from peercollab.errors import PeercollabError

USAGE = "./scripts/submit [--address URL] [--python PATH] -- [options of peercollab train]"


@dataclass(frozen=True)
class SubmitOptions:
    """Where to submit, the interpreter there, and the options of ``peercollab train``."""

    address: str | None
    python: str
    train: tuple[str, ...]

    @property
    def entrypoint(self) -> str:
        """The shell command that the job runs."""
        return shlex.join([self.python, "-m", "peercollab", "train", *self.train])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise PeercollabError(f"{message} (see ./scripts/submit --help)")


def parse_options(arguments: Sequence[str]) -> SubmitOptions:
    """What the command line asks for.

    Raises
    ------
    PeercollabError
        It is wrong, or the options of ``peercollab train`` in it are.
    SystemExit
        Help was asked for, and printed.
    """
    parser = _Parser(
        prog="./scripts/submit",
        usage=USAGE,
        allow_abbrev=False,
        description="Train on a Ray cluster: submit this source as a job, follow its log, and end "
        "as it ends: 0, 1 where the job failed, 2 where it could not be submitted or followed, 130 "
        "after Ctrl-C, which stops the job, too. Paths after -- are the cluster's.",
    )
    parser.add_argument(
        "--address",
        metavar="URL",
        help="the cluster's dashboard (default: RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265)",
    )
    parser.add_argument(
        "--python",
        metavar="PATH",
        default="python3",
        help="the interpreter on the head node, that of its `ray start` (default: python3)",
    )
    own = list(arguments)
    train: list[str] = []
    if "--" in own:
        at = own.index("--")
        own, train = own[:at], own[at + 1 :]
    parsed = parser.parse_args(own)
    if not train:
        raise PeercollabError(f"the options of peercollab train are missing: {USAGE}")
    _check_interpreter(parsed.python)
    _check_train(train)
    return SubmitOptions(parsed.address, parsed.python, tuple(train))


def _check_interpreter(python: str) -> None:
    if "/" in python and not PurePosixPath(python).is_absolute():
        raise PeercollabError(f"--python {python}: give the whole path that it has on the cluster")


def _check_train(train: Sequence[str]) -> None:
    """Refuse here and now what the job would refuse, and paths in the folder that Ray unpacks."""
    config = value_of("--config", train)
    if config is not None and PurePosixPath(config).is_absolute() and not Path(config).exists():
        # A file of the cluster: what is in it is known there alone.
        told = list(train)
    else:
        told = expanded(train)
        # What may be told anew with --resume is known with the run's folder alone.
        if value_of("--resume", told) is None:
            parse(Command, ["train", *told], "train")
    for option in ("--resume", "--out", "--data"):
        path = value_of(option, told)
        if path is None or path == DEMO:
            continue
        if not PurePosixPath(path).is_absolute():
            raise PeercollabError(
                f"{option} {path}: the job runs on the cluster, in a folder that Ray removes; give "
                "a whole path, one that every node sees"
            )
