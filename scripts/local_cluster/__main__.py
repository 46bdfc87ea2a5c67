"""``./scripts/local-cluster up | down``: a Ray cluster on this machine, for trying."""

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from peercollab.errors import PeercollabError
from scripts.local_cluster.nodes import LocalCluster, Sizes, begin, end

BAD_INPUT = 2
INTERRUPTED = 130

FOLDER = Path(tempfile.gettempdir()) / f"peercollab-{os.getuid()}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise PeercollabError(f"{message} (see ./scripts/local-cluster --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring the cluster up or down; the exit code."""
    signal.signal(signal.SIGTERM, _like_ctrl_c)
    try:
        options = _parser().parse_args(arguments)
        folder: Path = options.folder.absolute()
        if options.command == "down":
            end(folder)
            return 0
        sizes = Sizes(options.workers, options.cpus, options.object_store_mb << 20)
        print(f"Starting a head and {sizes.workers} workers (about a minute).", flush=True)
        print(_described(begin(folder, sizes), folder))
    except PeercollabError as error:
        print(f"local-cluster: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("local-cluster: stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    sizes = Sizes()
    parser = _Parser(
        prog="./scripts/local-cluster",
        description="A Ray cluster of several nodes on this machine. It asks for a token, kept in "
        "its folder; after down nothing is left of it.",
    )
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help=f"for all it writes (default: {FOLDER})"
    )
    for name, default, meaning in [
        ("workers", sizes.workers, "nodes beside the head"),
        ("cpus", sizes.cpus, "cores that each node offers"),
        ("object-store-mb", sizes.object_store_memory >> 20, "MiB of shared memory of each node"),
    ]:
        parser.add_argument(
            f"--{name}", type=_number, default=default, help=f"{meaning} (default: {default})"
        )
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return int(text)


def _described(cluster: LocalCluster, folder: Path) -> str:
    settings = [f"{name}={value}" for name, value in cluster.environment().items()]
    job = str(Path.cwd() / "runs" / "job")
    submit = ["./scripts/submit", "--address", cluster.jobs, "--python", sys.executable]
    down = ["./scripts/local-cluster", "down"]
    if folder != FOLDER:
        down += ["--folder", str(folder)]
    return (
        f"cluster: {cluster.address}\n"
        f"jobs:    {cluster.jobs}\n"
        f"token:   {shlex.join(['export', *settings])}\n"
        f"try:     {shlex.join([*submit, '--', '--out', job])}\n"
        f"end:     {shlex.join(down)}"
    )


def _like_ctrl_c(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
