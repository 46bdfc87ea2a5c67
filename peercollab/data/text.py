"""Files without columns: a sequence a line, with or without its user, and pairs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from peercollab.data.files import read_text
from peercollab.data.layout import Layout
from peercollab.data.records import MISSING, Records
from peercollab.data.tokens import Tokens, cut
from peercollab.errors import PeercollabError

SEPARATOR_NAMES = {" ": "space", ",": "comma", "\t": "tab", ";": "semicolon"}


def read_lines(path: Path, layout: Layout, *, allow_empty: bool) -> Records:
    """The interactions of sequences, user-sequences or pairs.

    A line without items - blank, or a user alone - gives no record; with `allow_empty` it gives
    one whose item is null. A blank line has a user only where users are called by line number.
    """
    tokens = cut(path, read_text(path), layout.separator)
    _refuse_missing(path, tokens, layout.separator)
    if layout.kind == "sequences":
        lines = np.arange(1, len(tokens.counts) + 1)
        counts = tokens.counts
        users = pa.array(lines).cast(pa.string())
        items = tokens.values
    else:
        if layout.kind == "pairs":
            _refuse_other_than_pairs(path, tokens, allow_empty=allow_empty)
        lines = np.flatnonzero(tokens.counts) + 1
        counts = tokens.counts[lines - 1] - 1
        is_user = np.zeros(len(tokens.values), dtype=bool)
        is_user[np.cumsum(counts + 1) - counts - 1] = True
        users = tokens.values.filter(pa.array(is_user))
        items = tokens.values.filter(pa.array(~is_user))
    if allow_empty:
        where_empty = (np.cumsum(counts) - counts)[counts == 0]
        at = np.insert(np.arange(len(items)), where_empty, -1)
        items = items.take(pa.array(at, mask=at < 0))
        counts = np.maximum(counts, 1)
    line_of_row = np.repeat(np.arange(len(counts)), counts)
    return Records(
        users=pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(line_of_row), users)]),
        items=pa.chunked_array([items]),
        times=None,
        place=lambda row: f"line {lines[line_of_row[row]]}",
    )


def _refuse_missing(path: Path, tokens: Tokens, separator: str) -> None:
    is_missing = pc.is_in(tokens.values, value_set=pa.array(["", *MISSING], pa.large_string()))
    bad = np.flatnonzero(is_missing.to_numpy(zero_copy_only=False))
    if not len(bad):
        return
    token = tokens.values[int(bad[0])].as_py()
    place = f"{path}, line {tokens.line_of(int(bad[0]))}"
    count = f"{len(bad):,} such in the file"
    if token:
        raise PeercollabError(f"{place}: {token} is not an id ({count}): remove or replace it")
    name = SEPARATOR_NAMES.get(separator, separator)
    raise PeercollabError(
        f"{place}: a stray {name} leaves an empty id ({count}): "
        f"put exactly one {name} between two ids, none before or after"
    )


def _refuse_other_than_pairs(path: Path, tokens: Tokens, *, allow_empty: bool) -> None:
    wrong = tokens.counts > 2
    if not allow_empty:
        wrong |= tokens.counts == 1
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0])
        raise PeercollabError(
            f"{path}, line {line + 1}: {tokens.counts[line]} tokens, where a pair is one user and "
            "one item; see --layout for other forms"
        )
