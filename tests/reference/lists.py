"""Pieces of histories as lists, which is how plain code takes them."""

from peercollab.data.sequences import Int32Array
from peercollab.data.split import Spans


def lists_of(items: Int32Array, spans: Spans) -> list[list[int]]:
    """The items of each span."""
    return [
        items[start:stop].tolist() for start, stop in zip(spans.starts, spans.stops, strict=True)
    ]
