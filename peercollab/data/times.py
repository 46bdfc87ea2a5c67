"""Timestamps in whatever form: only their order matters."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from peercollab.data.sequences import Int64Array
from peercollab.errors import PeercollabError

Float64Array = npt.NDArray[np.float64]
Times = Int64Array | Float64Array


def as_times(path: Path, name: str, column: pa.ChunkedArray, place: Callable[[int], str]) -> Times:
    """Times as numbers that sort as they do.

    Parameters
    ----------
    path, name
        File and column, for errors.
    column
        Numbers, dates, or text: integers, decimals or ISO 8601 dates, one form throughout.
    place
        Where a row stands in the file.

    Returns
    -------
    numpy.ndarray
        int64 ``[rows]``, float64 where there are fractions. Dates count from 1970 in UTC, in
        units of the finest of them.

    Raises
    ------
    PeercollabError
        A time is missing or cannot be read (the first is named), or the type is not a time.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        times = _parsed(pc.utf8_trim_whitespace(column))
    elif pa.types.is_timestamp(kind):
        times = column.cast(pa.int64()).to_numpy()
    elif pa.types.is_date(kind):
        times = column.cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy()
    elif pa.types.is_integer(kind):
        times = column.cast(pa.int64(), safe=False).to_numpy()
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        times = column.cast(pa.float64()).to_numpy()
    else:
        raise PeercollabError(
            f"{path}: column {name} is of type {kind}, which is not a time: "
            "name another with --time-column"
        )
    is_bad = ~np.isfinite(times)
    if is_bad.any():
        row = int(np.flatnonzero(is_bad)[0])
        value = column[row].as_py()
        what = "no time" if value is None else f"{value!r}, which is not a time"
        raise PeercollabError(
            f"{path}, {place(row)}: column {name} has {what} ({int(is_bad.sum()):,} such rows): "
            "times are numbers or ISO dates such as 2024-05-31 or 2024-05-31T12:00:00"
        )
    return times


def _parsed(text: pa.ChunkedArray) -> Times:
    """Text as numbers, or else as dates; if neither can, NaN marks what the likelier cannot."""
    for kind in (pa.int64(), pa.float64()):
        with suppress(pa.ArrowInvalid):
            numbers: Times = text.cast(kind).to_numpy()
            return numbers
    series = text.to_pandas()
    dates = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
    if dates.notna().all():
        since_1970: Int64Array = dates.astype(np.int64).to_numpy()
        return since_1970
    some_numbers = pd.to_numeric(series, errors="coerce").to_numpy(np.float64)
    if np.isfinite(some_numbers).sum() > dates.notna().sum():
        return some_numbers
    return np.where(dates.notna(), 0.0, np.nan)
