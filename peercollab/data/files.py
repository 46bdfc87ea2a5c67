"""Files as people hand them in: is it there, is it text, what does it begin with."""

import codecs
import difflib
from pathlib import Path

from peercollab.errors import PeercollabError

HEAD_BYTES = 1 << 20
PARQUET_MAGIC = b"PAR1"
# The first bytes of what gzip, zip, bzip2, xz and Zstandard write.
COMPRESSED_MAGIC = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def check_file(path: Path) -> None:
    """Refuse what cannot be read as a file of interactions.

    Raises
    ------
    PeercollabError
        The path is missing (the nearest name in its folder is suggested), a folder, or empty.
    """
    if path.is_dir():
        raise PeercollabError(f"{path} is a folder: name a file of interactions in it")
    if not path.exists():
        names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the name and the folder"
        raise PeercollabError(f"{path} does not exist: {hint}")
    if not path.is_file():
        raise PeercollabError(f"{path} is not a regular file: give a file of interactions")
    if path.stat().st_size == 0:
        raise PeercollabError(f"{path} is empty: give a file with interactions in it")


def is_parquet(path: Path) -> bool:
    """Whether the file says that it is Parquet, by its ending or its first bytes."""
    return path.suffix.lower() in (".parquet", ".pq") or _read(path, 4) == PARQUET_MAGIC


def read_text(path: Path) -> str:
    """The whole file, decoded."""
    return _decode(path, _read(path), whole=True)


def read_head(path: Path) -> str:
    """The file's first lines, decoded: whole lines only, unless the file has just one."""
    data = _read(path, HEAD_BYTES)
    text = _decode(path, data, whole=len(data) < HEAD_BYTES)
    return text[: text.rfind("\n") + 1] or text if len(data) == HEAD_BYTES else text


def _read(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise PeercollabError(f"{path} cannot be read: {error.strerror}") from error


def _decode(path: Path, data: bytes, *, whole: bool) -> str:
    """UTF-8 text, without its byte order mark."""
    if data.startswith(COMPRESSED_MAGIC):
        raise PeercollabError(f"{path} is compressed: unpack it, and give the file inside")
    if b"\0" in data:
        raise PeercollabError(
            f"{path} is not a text file (it has NUL bytes): "
            "give a UTF-8 text file of interactions, or Parquet"
        )
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=whole)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise PeercollabError(
            f"{path} is not a text file in UTF-8 (byte 0x{byte:02x} in line {line}): "
            "save it as UTF-8, or give Parquet"
        ) from error
