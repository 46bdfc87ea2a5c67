"""Tables as text: CSV, TSV, `.inter`, MovieLens' `::`."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from peercollab.data.columns import fields_of
from peercollab.data.files import read_head, read_text
from peercollab.data.layout import Layout
from peercollab.data.records import MISSING, Records, no_interactions
from peercollab.errors import PeercollabError

# Arrow's reader wants one character between fields: ASCII has one for the purpose.
UNIT_SEPARATOR = "\x1f"


def read_delimited(path: Path, layout: Layout) -> Records:
    """The interactions of a text table, every field as it is written.

    An empty field is null, and so is one that says NaN, NA, null or None without quotes.
    """
    lines = read_head(path).split("\n")
    blank_lines = next(number for number, line in enumerate(lines) if line.strip())
    first = fields_of(lines[blank_lines], layout.separator)
    positions = [str(position) for position in range(len(first))]
    taken = {
        role: positions[first.index(column) if layout.header else int(column) - 1]
        for role, column in (
            ("user", layout.user_column),
            ("item", layout.item_column),
            ("time", layout.time_column),
        )
        if column is not None
    }
    try:
        table = pyarrow.csv.read_csv(
            _source(path, layout.separator),
            pyarrow.csv.ReadOptions(
                column_names=positions, skip_rows=blank_lines + int(layout.header)
            ),
            pyarrow.csv.ParseOptions(
                delimiter=_delimiter(layout.separator), newlines_in_values=True
            ),
            pyarrow.csv.ConvertOptions(
                include_columns=list(dict.fromkeys(taken.values())),
                column_types=dict.fromkeys(taken.values(), pa.string()),
                null_values=["", *MISSING],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise _explained(path, layout, len(first), error) from error
    columns = {role: _empty_to_null(table[position]) for role, position in taken.items()}
    return Records(
        users=columns["user"],
        items=columns["item"],
        times=columns.get("time"),
        place=lambda row: f"line {_line_of(path, layout, row)}",
    )


def _delimiter(separator: str) -> str:
    return separator if len(separator) == 1 else UNIT_SEPARATOR


def _source(path: Path, separator: str) -> Any:
    if len(separator) == 1:
        return str(path)
    return pa.BufferReader(path.read_bytes().replace(separator.encode(), UNIT_SEPARATOR.encode()))


def _empty_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)


def _rows(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row that is not blank: slow, used for error messages."""
    delimiter = _delimiter(layout.separator)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = (line.replace(layout.separator, delimiter) for line in file)
        reader = csv.reader(lines, delimiter=delimiter)
        begins = 1
        for fields in reader:
            if fields:
                yield begins, fields
            begins = reader.line_num + 1


def _line_of(path: Path, layout: Layout, row: int) -> int:
    """The line in which a row of the table begins."""
    return next(islice(_rows(path, layout), row + int(layout.header), None))[0]


def _explained(
    path: Path, layout: Layout, n_columns: int, error: pa.ArrowInvalid
) -> PeercollabError:
    """Why Arrow could not read the table, with the line."""
    read_text(path)  # refuses bytes that are no text
    n_rows = 0
    try:
        for line, fields in _rows(path, layout):
            n_rows += 1
            if len(fields) != n_columns:
                return PeercollabError(
                    f"{path}, line {line}: the number of fields is {len(fields)}, where the first "
                    f"line has {n_columns}: mend the line, or put a field with the separator in "
                    "double quotes"
                )
    except csv.Error as trouble:
        return PeercollabError(f"{path}: {trouble}: is a double quote not closed?")
    if n_rows <= int(layout.header):
        return no_interactions(path, layout)
    return PeercollabError(f"{path} cannot be read as a {layout.describe()}\n{error}")
