"""Lines of text cut into tokens, all lines at once."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from peercollab.data.sequences import Int64Array
from peercollab.errors import PeercollabError

BLANKS = " \t\r"


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text.

    Attributes
    ----------
    values
        large_string ``[tokens]``: the tokens of all lines, end to end. A token is empty where
        two separators meet, or one begins or ends a line.
    counts
        int64 ``[lines]``: tokens of each line; 0 for a blank line.
    """

    values: pa.LargeStringArray
    counts: Int64Array

    def line_of(self, token: int) -> int:
        """The number, from 1, of the line that a token stands in."""
        return int(np.searchsorted(np.cumsum(self.counts), token, side="right")) + 1


def cut(path: Path, text: str, separator: str) -> Tokens:
    """Cut every line of `text` at `separator`.

    Blanks at a line's end and around a token are not part of it. A token in double quotes may
    contain the separator; `path` is named if such a quote is not closed.
    """
    lines = pc.split_pattern(pa.array([text], pa.large_string()), "\n").flatten()
    if text.endswith("\n"):
        lines = lines.slice(0, len(lines) - 1)
    lines = pc.utf8_rtrim(lines, characters=BLANKS)
    is_blank = pc.equal(lines, "").to_numpy(zero_copy_only=False)
    written = lines.filter(pa.array(~is_blank))
    if '"' in text and len(separator) == 1:
        by_line = _cut_quoted(path, lines, separator)
    else:
        by_line = pc.split_pattern(written, separator)
    counts = np.zeros(len(lines), dtype=np.int64)
    counts[~is_blank] = pc.list_value_length(by_line).to_numpy()
    return Tokens(pc.utf8_trim(by_line.flatten(), characters=BLANKS), counts)


def _cut_quoted(path: Path, lines: pa.LargeStringArray, separator: str) -> pa.ListArray:
    """The tokens of each line that is not blank, with quotes resolved."""
    cut_lines = []
    for number, line in enumerate(lines.to_pylist(), start=1):
        if not line:
            continue
        try:
            cut_lines.append(next(csv.reader([line], delimiter=separator, strict=True)))
        except csv.Error as error:
            raise PeercollabError(
                f"{path}, line {number}: a double quote is not closed ({error}); "
                "double it, or put the whole id in quotes"
            ) from error
    return pa.array(cut_lines, pa.list_(pa.large_string()))
