"""Files that are written: whole or not at all, and what goes wrong told in our words."""

import errno
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
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).rpartition("I/O error: ")[2]
        is_full = getattr(error, "errno", None) in FULL or any(w in reason for w in FULL_IN_WORDS)
        told = [reason, *(["make room on its disk"] if is_full else []), *filter(None, [otherwise])]
        raise PeercollabError(f"{path} cannot be written: {'; '.join(told)}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what is to become a file, in one move: all of it, or what was there stays.

    Raises
    ------
    PeercollabError
        It could not be written.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    with writing(path):
        try:
            # One that a killed process left may be another name of a file that must stay.
            unfinished.unlink(missing_ok=True)
            yield unfinished
            unfinished.replace(path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
