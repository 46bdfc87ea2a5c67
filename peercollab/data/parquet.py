"""Parquet tables."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from peercollab.data.layout import Layout
from peercollab.data.records import MISSING, Records
from peercollab.errors import PeercollabError

# Beyond this, a float64 no longer tells neighbouring whole numbers apart.
LARGEST_EXACT = 2**53


def read_parquet(path: Path, layout: Layout) -> Records:
    """The interactions of a Parquet table; whole numbers as ids become their decimal text.

    Raises
    ------
    PeercollabError
        The file is damaged, or a column's type cannot be an id.
    """
    wanted = [layout.user_column, layout.item_column, layout.time_column]
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=[column for column in wanted if column is not None])
    except (pa.ArrowInvalid, OSError) as error:
        raise PeercollabError(f"{path} cannot be read as Parquet: {error}") from error
    return Records(
        users=_ids(path, table, layout.user_column, "--user-column"),
        items=_ids(path, table, layout.item_column, "--item-column"),
        times=None if layout.time_column is None else _column(table, layout.time_column),
        place=_place,
    )


def _place(row: int) -> str:
    return f"row {row + 1}"


def _column(table: pa.Table, name: str | None) -> pa.ChunkedArray:
    """A column, categories written out; and text that lies elsewhere (``string_view``), too.

    Of that Arrow can hardly compute anything.
    """
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def _ids(path: Path, table: pa.Table, name: str | None, option: str) -> pa.ChunkedArray:
    """A column as text, null where the id is missing."""
    column = _column(table, name)
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _decimal_text(_whole_numbers(path, name, column))
    if pa.types.is_integer(kind):
        return _decimal_text(column)
    if not (is_text or pa.types.is_null(kind)):
        raise PeercollabError(
            f"{path}: column {name} is of type {kind}, and ids are text or whole numbers: "
            f"name another column with {option}"
        )
    text = column.cast(pa.large_string())
    is_missing = pc.is_in(text, value_set=pa.array(["", *MISSING], pa.large_string()))
    return pc.if_else(is_missing, pa.scalar(None, pa.large_string()), text)


def _decimal_text(whole: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers as text, written once for each different number."""
    encoded = whole.dictionary_encode().unify_dictionaries().combine_chunks()
    text = encoded.dictionary.cast(pa.large_string())
    return pa.chunked_array([pa.DictionaryArray.from_arrays(encoded.indices, text)])


def _whole_numbers(path: Path, name: str | None, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Floats and decimals without a fraction as integers; NaN as null."""
    as_floats = column.cast(pa.float64())
    values = as_floats.to_numpy()
    is_bad = (values != np.floor(values)) & ~np.isnan(values)
    if pa.types.is_floating(column.type):
        is_bad |= np.abs(values) > LARGEST_EXACT
    if is_bad.any():
        row = int(np.flatnonzero(is_bad)[0])
        raise PeercollabError(
            f"{path}, {_place(row)}: column {name} has {column[row].as_py()}, where an id is text "
            f"or a whole number ({int(is_bad.sum()):,} such rows): write such ids as text"
        )
    if pa.types.is_decimal(column.type):
        return column.cast(pa.decimal128(38, 0))
    return pc.if_else(pc.is_nan(as_floats), pa.scalar(None, pa.float64()), as_floats).cast(
        pa.int64()
    )
