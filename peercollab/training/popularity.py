"""The same items for everyone, the most popular ones: what a model has to beat."""

import numpy as np

from peercollab.data.sequences import Int32Array, Int64Array
from peercollab.data.split import Queries, Spans
from peercollab.training.metrics import MISS

USERS_AT_ONCE = 4096


class Popularity:
    """Items by their number of training interactions; of equal ones the smaller number first.

    Parameters
    ----------
    counts_V
        int64 ``[items]``.

    Attributes
    ----------
    order_V
        int64 ``[items]``: item numbers, the most popular first.
    """

    def __init__(self, counts_V: Int64Array) -> None:
        self.counts_V = counts_V
        self.order_V = np.argsort(-counts_V, kind="stable")
        self._place_V = np.empty_like(self.order_V)
        self._place_V[self.order_V] = np.arange(len(counts_V))

    def ranks(self, items: Int32Array, queries: Queries, *, keep_seen: bool) -> Int32Array:
        """What `rank_targets` gives where every item's score is its count; no score is computed.

        Returns
        -------
        int32 ``[queries]``
        """
        if keep_seen:
            return (self._place_V[queries.targets] + 1).astype(np.int32)
        ranks_U = np.empty(len(queries), dtype=np.int32)
        for start in range(0, len(queries), USERS_AT_ONCE):
            rows = slice(start, start + USERS_AT_ONCE)
            ranks_U[rows] = self._ranks_unseen(
                items,
                Spans(queries.spans.starts[rows], queries.spans.stops[rows]),
                queries.targets[rows],
            )
        return ranks_U

    def _ranks_unseen(self, items: Int32Array, spans: Spans, targets_U: Int32Array) -> Int64Array:
        """Of each target among the items that its user has not seen."""
        row_S, item_S = spans.flat(items)
        place_U = self._place_V[targets_U]
        is_before_S = self._place_V[item_S] < place_U[row_S]
        # An item that was seen twice stands in the way once.
        before = np.unique(row_S[is_before_S] * len(self.order_V) + item_S[is_before_S])
        n_before_U = np.bincount(before // len(self.order_V), minlength=len(spans))
        rank_U = place_U + 1 - n_before_U
        rank_U[row_S[item_S == targets_U[row_S]]] = MISS
        return rank_U
