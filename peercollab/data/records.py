"""What a reader takes from a file, before ids become numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from peercollab.data.layout import Layout
from peercollab.errors import PeercollabError

# Written without quotes, these stand for an id that is not there.
MISSING = ("nan", "NaN", "NA", "<NA>", "null", "NULL", "None")


@dataclass(frozen=True)
class Records:
    """Three columns of a file, in its order.

    Attributes
    ----------
    users, items
        Text, in any string or dictionary type of Arrow; null where the id is missing.
    times
        As they are in the file, or None.
    place
        Where a row stands in the file, for an error: "line 17".
    """

    users: pa.ChunkedArray
    items: pa.ChunkedArray
    times: pa.ChunkedArray | None
    place: Callable[[int], str]


def no_interactions(path: Path, layout: Layout) -> PeercollabError:
    """The error for a file that is well formed and has nothing in it."""
    what = "a header and no interactions" if layout.header else "no interactions"
    return PeercollabError(
        f"{path} has {what}: give a file with at least two users\n(read as: {layout.describe()})"
    )
