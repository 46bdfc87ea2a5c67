"""Interactions as numbers: one flat array of items, and where each user's history begins."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
IdArray = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Histories:
    """All that a peer needs of the data: arrays of numbers, shared read-only between peers.

    Attributes
    ----------
    items
        int32 ``[interactions]``: item numbers, every user's history in time order, end to end.
    offsets
        int64 ``[users + 1]``: the history of user u is ``items[offsets[u]:offsets[u + 1]]``.
    n_items
        Size of the catalogue; item numbers are below it.
    """

    items: Int32Array
    offsets: Int64Array
    n_items: int

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64Array:
        """int64 ``[users]``: interactions of each user."""
        return np.diff(self.offsets)

    def of(self, user: int) -> Int32Array:
        """int32 ``[length]``: one user's history."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]


@dataclass(frozen=True)
class SequenceData:
    """Histories together with the user's own ids, which stay with the driver.

    Attributes
    ----------
    histories
        The numbers.
    user_ids
        object (str) ``[users]``, sorted: the own id of each user number.
    item_ids
        object (str) ``[items]``, sorted: the own id of each item number. Numbers follow the
        sorted ids, so the order of a file's rows does not change a result.
    """

    histories: Histories
    user_ids: IdArray
    item_ids: IdArray

    def checksum(self) -> str:
        """SHA-256 over all of it: of the same data the same, wherever it is read."""
        checksum = hashlib.sha256()
        for numbers in (self.histories.items, self.histories.offsets):
            checksum.update(np.ascontiguousarray(numbers).data)
        for ids in (self.user_ids, self.item_ids):
            checksum.update("\0".join(map(str, ids)).encode())
        return checksum.hexdigest()
