"""Keep a comparison among the records, and take it up again on another machine.

A record is the comparison's ``comparison.json``; its archive beside it, ``NAME.tar.xz``, is the
comparison's folder without its models, small enough to be kept. In the folder restored from it the
same command goes on with more seeds and arms. Only an arm that ends several models as one (``soup``
and the like) has to be there from the first, as it needs the models themselves.
"""

import io
import json
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from peercollab.comparison.folder import ASKED, CHOSEN, COMPARISON
from peercollab.disk import replacing
from peercollab.errors import PeercollabError
from peercollab.own_code import is_own
from peercollab.results.heartbeat import require_idle
from peercollab.results.run_folder import METRICS, PER_USER, ROUNDS
from peercollab.training.metrics import CUTOFFS
from scripts import evidence_tables
from scripts.evidence_tables import RECORDS

USAGE = "usage: ./scripts/evidence [keep FOLDER NAME | restore NAME FOLDER]"


def main(words: list[str]) -> None:
    """Do what the command line asks for."""
    match words:
        case ["keep", folder, name]:
            keep(Path(folder), name)
            evidence_tables.main()
        case ["restore", name, folder]:
            restore(name, Path(folder))
        case _:
            raise PeercollabError(USAGE)


def keep(folder: Path, name: str, records: Path = RECORDS) -> None:
    """Write record and archive of a comparison anew.

    Parameters
    ----------
    folder
        The comparison's; what is not done in it yet is left out.
    name
        Of the record, as the documents have it.
    records
        Where records lie.

    Raises
    ------
    PeercollabError
        There is no comparison in the folder, it is going on, or was killed, or is one of the user's
        own code, or a file in it cannot be read.
    """
    _require_keepable(folder)
    try:
        kept = list(_kept(folder))
    except OSError as error:
        raise PeercollabError(f"{folder} is damaged: {error}") from error
    with (
        replacing(records / f"{name}.tar.xz") as unfinished,
        tarfile.open(unfinished, "w:xz", preset=9) as archive,
    ):
        for path, content in kept:
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    shutil.copyfile(folder / COMPARISON, records / f"{name}.json")


def restore(name: str, folder: Path, records: Path = RECORDS) -> None:
    """Make the folder of a comparison from its archive.

    Parameters
    ----------
    name
        Of the record.
    folder
        Is made.
    records
        Where records lie.

    Raises
    ------
    PeercollabError
        There is no such archive, or something is there already.
    """
    path = records / f"{name}.tar.xz"
    if not path.is_file():
        raise PeercollabError(f"there is no {path}: it is written by ./scripts/evidence keep")
    if folder.exists():
        raise PeercollabError(f"{folder} is there already: give another folder")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(path) as archive:
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is not None
            target = unfinished / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
    unfinished.rename(folder)


def _require_keepable(folder: Path) -> None:
    if not ((folder / COMPARISON).is_file() and (folder / ASKED).is_file()):
        raise PeercollabError(f"{folder} has no {COMPARISON}: give the folder of a comparison")
    require_idle(folder)
    written = (folder / COMPARISON).stat().st_mtime
    if any(outcome.stat().st_mtime > written for outcome in _outcomes(folder)):
        raise PeercollabError(
            f"{folder / COMPARISON} is older than what has been trained: the same peercollab "
            "compare writes it anew"
        )
    arms = json.loads((folder / ASKED).read_text(encoding="utf-8"))["arms"]
    if any(_is_of_a_file(of) for of in arms.values()):
        raise PeercollabError(
            f"{folder} is of code or options in files, which nobody else has: only a comparison "
            "of what peercollab has built in can be kept"
        )


def _is_of_a_file(arm: Mapping[str, Any]) -> bool:
    """Whether an arm, as it was asked for, has code or options that lie in a file."""
    has_code = any(is_own(str(arm["trained"].get(option))) for option in ("--rule", "--model"))
    return has_code or re.search(r"--config\b", arm["told"]) is not None


def _kept(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Of all that is done, what the comparison's result is made of: paths within, and contents."""
    asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    # Paths and addresses mean nothing elsewhere, and are told anew.
    asked |= {"out": "", "data": Path(asked["data"]).name}
    asked["execution"]["address"] = None
    yield ASKED, (json.dumps(asked, indent=1) + "\n").encode()
    if (folder / CHOSEN).is_file():
        yield CHOSEN, (folder / CHOSEN).read_bytes()
    for outcome in _outcomes(folder):
        if json.loads(outcome.read_text(encoding="utf-8"))["error"] is not None:
            continue
        yield str(outcome.relative_to(folder)), outcome.read_bytes()
        job = outcome.with_name(outcome.name.partition(".")[0])
        for path in (job / METRICS, job / ROUNDS):
            # An end of several runs has no rounds of its own.
            if path.is_file():
                yield str(path.relative_to(folder)), path.read_bytes()
        yield str((job / PER_USER).relative_to(folder)), _clipped(job / PER_USER)


def _outcomes(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*/seed-*.outcome.json"))


def _clipped(per_user: Path) -> bytes:
    """Test ranks with all that are beyond the last cutoff made one: no metric tells them apart."""
    frame = pd.read_parquet(per_user)
    frame = frame[frame["split"] == "test"]
    ranks = frame["rank"].clip(upper=max(CUTOFFS) + 1).astype(pd.Int8Dtype())
    buffer = io.BytesIO()
    # The archive compresses better, users above all, who are the same in every run.
    frame.assign(rank=ranks).to_parquet(buffer, index=False, compression=None)
    return buffer.getvalue()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PeercollabError as error:
        print(f"evidence: {error}", file=sys.stderr)
        sys.exit(2)
