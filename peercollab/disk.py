"""Files that are written: whole or not at all, seen by others, and what goes wrong told."""

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from peercollab.errors import PeercollabError

# The library of tensors tells in a text of its own what the system said.
FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_IN_WORDS = ("No space left", "quota")


@contextmanager
def writing(path: Path, otherwise: str = "") -> Iterator[None]:
    """Tell of a file that cannot be written; `otherwise` says what that leaves.

    Raises
    ------
    PeercollabError
        It could not be written.
    BrokenPipeError
        It is a pipe that nobody reads any more.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).rpartition("I/O error: ")[2]
        is_full = getattr(error, "errno", None) in FULL or any(w in reason for w in FULL_IN_WORDS)
        told = [reason, *(["make room on its disk"] if is_full else []), *filter(None, [otherwise])]
        raise PeercollabError(f"{path} cannot be written: {'; '.join(told)}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what is to become a file, in one move: all of it, or what was there stays.

    A device or a pipe is written to as it is, and of a link that to which it leads.

    Raises
    ------
    PeercollabError
        It could not be written.
    """
    with writing(path):
        if path.exists() and not path.is_file():
            yield path
            return
        path = path.resolve()
        unfinished = path.with_name(f"{path.name}.unfinished")
        try:
            # One that a killed process left may be another name of a file that must stay.
            unfinished.unlink(missing_ok=True)
            yield unfinished
            unfinished.replace(path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise


@contextmanager
def token_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """A small file for others to read, and what is in it: who reads the same sees the folder.

    Raises
    ------
    PeercollabError
        It could not be written.
    """
    token, path = secrets.token_hex(), folder.absolute() / "token"
    with writing(path):
        path.write_text(token, encoding="ascii")
    try:
        yield path, token
    finally:
        path.unlink()


def text_of(path: Path) -> str | None:
    """The text of a small file; None if it is not there, seen from here."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
