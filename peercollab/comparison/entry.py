"""What one seed of an arm came to, as ``comparison.json`` has it."""

from collections.abc import Mapping
from typing import Any

# With an error there is nothing else in it.
Entry = Mapping[str, Any]


def is_whole(entry: Entry | None) -> bool:
    """Whether it was done, and came to a model."""
    return entry is not None and entry["error"] is None


def whole_entries(arm: Mapping[str, Any]) -> list[Entry]:
    """Of all seeds of an arm that came to a model."""
    return [entry for entry in arm["seeds"].values() if is_whole(entry)]
