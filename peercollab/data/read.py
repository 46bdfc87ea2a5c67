"""Any file of interactions, as numbers and the file's own ids."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from peercollab.data.files import check_file
from peercollab.data.ids import number
from peercollab.data.layout import Layout, ReadOptions, recognise, recognise_columns
from peercollab.data.parquet import read_parquet
from peercollab.data.records import Records, no_interactions
from peercollab.data.sequences import IdArray, Int64Array
from peercollab.data.tables import read_delimited
from peercollab.data.text import read_lines
from peercollab.data.times import Times, as_times
from peercollab.errors import PeercollabError


@dataclass(frozen=True)
class Interactions:
    """A log of who interacted with what, in the order of the file.

    Attributes
    ----------
    users, items
        int64 ``[interactions]``: numbers of users and items, in the order of their sorted ids.
    times
        int64 or float64 ``[interactions]``, or None if the file's order is the order in time.
    user_ids, item_ids
        object (str) ``[users]``, ``[items]``: own ids, sorted, exactly as the file has them.
    layout
        How the file was read.
    users_as_named
        int64 ``[users]``: user numbers in the order in which the file names them first. None
        where the interactions tell: no user is without one.
    """

    users: Int64Array
    items: Int64Array
    times: Times | None
    user_ids: IdArray
    item_ids: IdArray
    layout: Layout
    users_as_named: Int64Array | None = None

    def __len__(self) -> int:
        return len(self.users)


def read_interactions(
    path: Path, options: ReadOptions, *, layout: Layout | None = None, allow_empty: bool = False
) -> Interactions:
    """Read a file of interactions.

    Ids are the text of the file: "007" stays "007", and the whole numbers of a Parquet column
    become their decimal text.

    Parameters
    ----------
    path
        Sequences, pairs, CSV, TSV, `.inter`, MovieLens `.dat` or Parquet.
    options
        What the user says about the file; unused if `layout` is given.
    layout
        The layout stored with a run. Of a table its columns count: another separator, or Parquet
        in place of text, is recognised.
    allow_empty
        Keep users without any item: a blank line of a sequence file, a user alone, a table row
        whose item is empty. Without it, the first two are skipped and the last is an error.

    Raises
    ------
    PeercollabError
        The file cannot be read, or has missing ids, bad times or no interactions. The message
        names the file and the line.
    """
    if layout is None:
        layout = recognise(path, options)
    elif layout.kind == "table":
        layout = recognise_columns(path, layout)
    else:
        check_file(path)
    records = _records(path, layout, allow_empty=allow_empty)
    _refuse_missing(path, records, allow_empty=allow_empty)
    is_interaction = records.items.is_valid()
    rows = np.flatnonzero(is_interaction.to_numpy())
    if not len(rows if not allow_empty else records.users):
        raise no_interactions(path, layout)
    times = None
    if records.times is not None and layout.time_column is not None:
        times = as_times(
            path,
            layout.time_column,
            records.times.filter(is_interaction),
            lambda row: records.place(int(rows[row])),
        )
    users, user_ids = number(records.users)
    items, item_ids = number(records.items.filter(is_interaction))
    _refuse_line_breaks(path, user_ids)
    _refuse_line_breaks(path, item_ids)
    return Interactions(
        users=users[rows],
        items=items,
        times=times,
        user_ids=user_ids,
        item_ids=item_ids,
        layout=layout,
        users_as_named=pd.unique(users) if allow_empty else None,
    )


def _records(path: Path, layout: Layout, *, allow_empty: bool) -> Records:
    if layout.kind != "table":
        return read_lines(path, layout, allow_empty=allow_empty)
    if layout.file_format == "parquet":
        return read_parquet(path, layout)
    return read_delimited(path, layout)


def _refuse_missing(path: Path, records: Records, *, allow_empty: bool) -> None:
    required = (
        {"user": records.users} if allow_empty else {"user": records.users, "item": records.items}
    )
    for role, column in required.items():
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise PeercollabError(
                f"{path}, {records.place(row)}: the {role} is empty or NaN "
                f"({column.null_count:,} such rows): remove these rows, or give them ids"
            )


def _refuse_line_breaks(path: Path, ids: IdArray) -> None:
    """An id with a line break has swallowed the lines after an unclosed quote."""
    bad = pc.match_substring_regex(pa.array(ids, pa.large_string()), "[\\r\\n\\x00]")
    if pc.any(bad).as_py():
        found = ids[int(np.flatnonzero(bad.to_numpy(zero_copy_only=False))[0])]
        raise PeercollabError(
            f"{path}: the id {found[:40]!r} has a line break or a NUL byte in it: "
            "is a double quote not closed, or the file not text?"
        )
