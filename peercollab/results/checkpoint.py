"""Checkpoints of a run: files that are valid together or not at all.

::

    checkpoints/round-7/  peer-1.safetensors, peer-1.json, ..., run.json, best.safetensors
                          manifest.json, written last: what belongs to it, with sizes and checksums

Nothing that is read back is ever unpickled.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peercollab.disk import replacing, writing
from peercollab.errors import PeercollabError
from peercollab.models.saved import save_tensors
from peercollab.results.state_tree import flatten, load_tree

MANIFEST = "manifest.json"
KEPT = 2

_NAME = re.compile(r"round-(\d+)")
_READ_BYTES = 1 << 22


@dataclass(frozen=True)
class Digest:
    """What a file must be: its size in bytes and its SHA-256."""

    bytes: int
    sha256: str


Digests = dict[str, Digest]


class Checkpoints:
    """The ``checkpoints/`` of a run.

    Parameters
    ----------
    folder
        Where they lie, or will lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, round: int) -> Path:
        """Where the checkpoint after a round lies, whether it is there or not."""
        return self.folder / f"round-{round}"

    def before(self, round: int) -> Path:
        """Where the last checkpoint before that after a round lies."""
        return self.of(max(other for other in self.complete_ones() if other < round))

    def begin(self, round: int) -> Path:
        """An empty folder for a checkpoint, which is none before it is completed.

        Raises
        ------
        PeercollabError
            It cannot be made.
        """
        path = self.of(round)
        with _writing(path):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        return path

    def complete(self, round: int, files: Mapping[str, Digest]) -> None:
        """Make a checkpoint valid, and remove all but the last `KEPT`."""
        path = self.of(round)
        content = {"round": round, "files": {name: asdict(files[name]) for name in sorted(files)}}
        manifest = content | {"sha256": _checksum_of(content)}
        write_whole(path / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        _sync(self.folder)
        oldest = min(self.complete_ones()[-KEPT:])
        for old in self.rounds():
            if old < oldest:
                self.discard(old)

    def discard(self, round: int) -> None:
        """Take away a checkpoint, such as one that could not be completed."""
        shutil.rmtree(self.of(round), ignore_errors=True)

    def discard_after(self, round: int) -> None:
        """Take away what was written of later rounds, which are to be done again."""
        for later in self.rounds():
            if later > round:
                self.discard(later)

    def remove(self) -> None:
        """Take all of them away, of a run that nobody wants to go on with."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def is_complete(self, round: int) -> bool:
        """Whether a checkpoint was completed once; `verify` says whether it is whole still."""
        return (self.of(round) / MANIFEST).is_file()

    def complete_ones(self) -> list[int]:
        """Rounds whose checkpoint was completed, ascending."""
        return [round for round in self.rounds() if self.is_complete(round)]

    def rounds(self) -> list[int]:
        """Rounds of which there is a folder, ascending, whole or not."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def latest(self, say: Callable[[str], None]) -> int | None:
        """The last round whose checkpoint is whole; `say` is told of each that is not, and why."""
        for round in reversed(self.rounds()):
            try:
                self.verify(round)
            except PeercollabError as error:
                say(str(error))
            else:
                return round
        return None

    def verify(self, round: int) -> Digests:
        """The files of a checkpoint, each compared with what the manifest says of it.

        Raises
        ------
        PeercollabError
            Something is missing or differs, which is named.
        """
        path = self.of(round)
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            if manifest.pop("sha256") != _checksum_of(manifest):
                raise ValueError("its checksum is another one")
            files = {str(name): Digest(**of) for name, of in manifest["files"].items()}
            if manifest["round"] != round or any(Path(name).name != name for name in files):
                raise ValueError("it is of another checkpoint")
        except FileNotFoundError:
            raise PeercollabError(f"checkpoint {path} was not completed") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PeercollabError(f"checkpoint {path}: {MANIFEST} is damaged ({error})") from error
        for name, expected in files.items():
            try:
                found = digest(path / name)
            except OSError as error:
                raise PeercollabError(f"checkpoint {path}: {name}: {error.strerror}") from error
            if found.bytes != expected.bytes:
                raise PeercollabError(
                    f"checkpoint {path}: {name} has {found.bytes} bytes in place of "
                    f"{expected.bytes}"
                )
            if found != expected:
                raise PeercollabError(
                    f"checkpoint {path}: {name} is damaged: its checksum is another one"
                )
        return files


def peer_tree(number: int) -> str:
    """The name of a peer's tree in a checkpoint; peers are numbered from 1."""
    return f"peer-{number}"


def tree_files(name: str) -> tuple[str, str]:
    """The two files of a tree: its tensors, and all else."""
    return f"{name}.safetensors", f"{name}.json"


def save_tree(tree: Any, folder: Path, name: str) -> Digests:
    """Write a tree of dicts, lists, plain values and tensors as ``NAME.safetensors`` and ``.json``.

    Raises
    ------
    PeercollabError
        It could not be written.
    """
    shape, tensors = flatten(tree)
    tensors_file, shape_file = tree_files(name)
    with _writing(folder / tensors_file):
        save_tensors(tensors, folder / tensors_file)
    write_whole(folder / shape_file, json.dumps(shape))
    with _writing(folder):
        return digests(folder, (tensors_file, shape_file))


def read_tree(folder: Path, name: str) -> Any:
    """What `save_tree` wrote.

    Raises
    ------
    PeercollabError
        A file is missing or damaged.
    """
    tensors_file, shape_file = tree_files(name)
    return load_tree(folder / shape_file, folder / tensors_file)


def carry_over(names: Mapping[str, str], source: Path, target: Path) -> Digests:
    """Files of one folder in another, under the names given for theirs; links where possible."""
    with _writing(target):
        for old, new in names.items():
            (target / new).unlink(missing_ok=True)
            try:
                os.link(source / old, target / new)
            except OSError:
                shutil.copyfile(source / old, target / new)
        return digests(target, names.values())


def digests(folder: Path, names: Iterable[str]) -> Digests:
    """What lies in a folder, safely on the disk."""
    found = {name: digest(folder / name, sync=True) for name in names}
    _sync(folder)
    return found


def digest(path: Path, *, sync: bool = False) -> Digest:
    """Size and checksum of a file; with `sync`, when all of it has reached the disk."""
    checksum = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        while part := file.read(_READ_BYTES):
            checksum.update(part)
            size += len(part)
    return Digest(size, checksum.hexdigest())


def write_whole(path: Path, text: str) -> None:
    """Put a text into a file: all of it, and on the disk, or none.

    Raises
    ------
    PeercollabError
        It could not be written.
    """
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _checksum_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(folder: Path) -> None:
    """See to it that the folder's entries are on the disk, where a system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _writing(path: Path) -> AbstractContextManager[None]:
    """Tell of a part of a checkpoint that cannot be written."""
    return writing(path, "the checkpoint before it stays as it is")
