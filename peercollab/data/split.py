"""Leave-one-out and training windows, as spans of the flat item array: nothing is copied.

A user's last item is the test target, the last but one the validation target, the rest is for
training; the history for test includes the validation item.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from peercollab.data.sequences import Histories, Int32Array, Int64Array

HoldOut = Literal["validation", "test"]
HOLD_OUTS: tuple[HoldOut, ...] = ("validation", "test")

# One item to learn from, one to validate on, one to test on.
FEWEST_FOR_HOLD_OUT = 3


@dataclass(frozen=True)
class Spans:
    """Stretches of the flat item array: ``items[starts[i]:stops[i]]``; both int64 ``[rows]``."""

    starts: Int64Array
    stops: Int64Array

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> Int64Array:
        return self.stops - self.starts

    def last(self, length: int) -> "Spans":
        """The same spans, cut to their last `length` items."""
        return Spans(np.maximum(self.starts, self.stops - length), self.stops)

    def take(self, rows: Int64Array) -> "Spans":
        return Spans(self.starts[rows], self.stops[rows])

    def flat(self, items: Int32Array) -> tuple[Int64Array, Int32Array]:
        """Row number (int64) and item number of everything in the spans, row after row."""
        row_S = np.repeat(np.arange(len(self)), self.lengths)
        first_of_row = np.cumsum(self.lengths) - self.lengths
        return row_S, items[self.starts[row_S] + np.arange(len(row_S)) - first_of_row[row_S]]


@dataclass(frozen=True)
class Queries:
    """What is ranked: for each user one target, given all that the user did before it.

    Attributes
    ----------
    users
        int64 ``[queries]``: user numbers, ascending.
    spans
        The history before the target, whole.
    targets
        int32 ``[queries]``: item numbers.
    """

    users: Int64Array
    spans: Spans
    targets: Int32Array

    def __len__(self) -> int:
        return len(self.users)


def training_spans(histories: Histories) -> Spans:
    """Each user's items to learn from: all but the two held out.

    A user with fewer than three interactions has nothing to hold out and trains with all of them.
    """
    held_out = np.where(histories.lengths >= FEWEST_FOR_HOLD_OUT, 2, 0)
    return Spans(histories.offsets[:-1], histories.offsets[1:] - held_out)


def queries(histories: Histories, hold_out: HoldOut) -> Queries:
    """The targets of validation or test, with the histories before them."""
    users = np.flatnonzero(histories.lengths >= FEWEST_FOR_HOLD_OUT)
    target_at = histories.offsets[users + 1] - (1 if hold_out == "test" else 2)
    return Queries(
        users=users,
        spans=Spans(histories.offsets[users], target_at),
        targets=histories.items[target_at],
    )


def training_counts(histories: Histories) -> Int64Array:
    """int64 ``[items]``: training interactions of each item."""
    counts = np.bincount(histories.items, minlength=histories.n_items)
    for hold_out in HOLD_OUTS:
        counts -= np.bincount(queries(histories, hold_out).targets, minlength=histories.n_items)
    return counts


def windows(spans: Spans, length: int) -> Spans:
    """Cut spans into training windows of at most ``length + 1`` items: inputs and targets.

    A longer span is cut from its end, and neighbouring windows share one item, so every item but
    a user's first is a target exactly once. Spans of fewer than two items give no window.
    """
    n_targets = np.maximum(spans.lengths - 1, 0)
    n_windows = -(-n_targets // length)
    row = np.repeat(np.arange(len(spans)), n_windows)
    first_of_row = np.cumsum(n_windows) - n_windows
    from_end = np.arange(len(row)) - first_of_row[row]
    stops = spans.stops[row] - from_end * length
    return Spans(np.maximum(spans.starts[row], stops - length - 1), stops)
