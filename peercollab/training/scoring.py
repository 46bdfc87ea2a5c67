"""Rank the whole catalogue for histories, a chunk of rows at a time: targets' ranks, or the top k.

The scores ``[users, items]`` never exist as a whole, and nothing is sampled.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from peercollab.data.batches import in_order, lay_out
from peercollab.data.sequences import Int32Array, Int64Array
from peercollab.data.split import Queries, Spans
from peercollab.errors import DivergedError
from peercollab.models.model import SequenceModel
from peercollab.training.loss import rows_at_once
from peercollab.training.metrics import MISS

# Rows that are scored at once, however few the items, and rows that go through the network at
# once: on a CPU few enough that they stay in its cache.
_MOST_ROWS_AT_ONCE = {"cpu": 256, "cuda": 4096}
_ROWS_OF_A_PASS = {"cpu": 64}


OnRows = Callable[[int, int], None]


class Scorer(Protocol):
    """Whatever scores items as ``hidden_BD @ table_VD.T + bias_V``."""

    def last_hidden(self, items: Int32Array, spans: Spans, users: Int64Array | None) -> Tensor:
        """A hidden state for each span of `items`, none of which is empty but of known users.

        `users` are int64 user numbers, -1 for who is not known; None if nobody is.
        """

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        """``table_VD`` and ``bias_V``."""


class ModelScorer:
    """A model in evaluation mode, asked for the hidden state after a history's last item."""

    def __init__(self, model: SequenceModel, device: torch.device) -> None:
        self._model = model
        self._device = device

    def last_hidden(self, items: Int32Array, spans: Spans, users: Int64Array | None) -> Tensor:
        latest = spans.last(self._model.max_length)
        if users is not None and self._model.knows_users:
            # Whole histories, which may be long, are laid out for those alone who are not known.
            latest = Spans(np.where(users >= 0, latest.stops, latest.starts), latest.stops)
        size = _ROWS_OF_A_PASS.get(self._device.type, len(spans))
        parts = np.split(np.arange(len(spans)), range(size, len(spans), size))
        return torch.cat(
            [
                self._model.last_hidden(
                    lay_out(items, latest.take(part), None if users is None else users[part]).to(
                        self._device
                    )
                )
                for part in parts
            ]
        )

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        return self._model.item_table()


@torch.inference_mode()
def rank_targets(
    scorer: Scorer,
    items: Int32Array,
    queries: Queries,
    *,
    keep_seen: bool,
    on_rows: OnRows | None = None,
) -> Int32Array:
    """The rank of each query's target among all items.

    The rank is 1 + the number of items that score higher + the number of equal-scoring items
    with a smaller number. Unless `keep_seen`, the items of the user's history are left out; a
    target among them is not ranked, and gets `MISS`.

    Parameters
    ----------
    scorer
        The model.
    items, queries
        All interactions, and what is asked of whose.
    keep_seen
        Whether seen items are ranked, too.
    on_rows
        Called now and then with the queries done, and the queries in all.

    Returns
    -------
    int32 ``[queries]``

    Raises
    ------
    DivergedError
        A score is not a finite number.
    """
    ranks_U = np.empty(len(queries), dtype=np.int32)
    n_items = len(scorer.item_table()[0])
    flags_BV: Tensor | None = None
    n_done = 0
    for rows, scores_BV in _score_chunks(scorer, items, queries.spans, queries.users, keep_seen):
        target_B1 = torch.from_numpy(queries.targets[rows].astype(np.int64))[:, None]
        target_B1 = target_B1.to(scores_BV.device)
        own_B1 = scores_BV.gather(1, target_B1)
        # Comparing into numbers, and adding these up, takes a fifth of the time that booleans do;
        # up to 2^24 items are counted exactly.
        flags_BV = torch.empty_like(scores_BV) if flags_BV is None else flags_BV[: len(rows)]
        rank_B = 1 + torch.gt(scores_BV, own_B1, out=flags_BV).sum(dim=1)
        equal_B = torch.eq(scores_BV, own_B1, out=flags_BV).sum(dim=1)
        is_ranked_B = (own_B1 != -torch.inf).squeeze(1)
        # The target's own score is one of the equal ones; more of them are rare.
        tied_T = (is_ranked_B & (equal_B > 1)).nonzero().squeeze(1)
        is_earlier_TV = torch.arange(n_items, device=target_B1.device) < target_B1[tied_T]
        rank_B[tied_T] += (flags_BV[tied_T] * is_earlier_TV).sum(dim=1)
        ranks_U[rows] = rank_B.where(is_ranked_B, MISS).cpu().numpy()
        n_done += len(rows)
        if on_rows is not None:
            on_rows(n_done, len(queries))
    return ranks_U


@torch.inference_mode()
def top_k(
    scorer: Scorer,
    items: Int32Array,
    spans: Spans,
    k: int,
    *,
    keep_seen: bool,
    users: Int64Array | None = None,
) -> tuple[Int64Array, np.ndarray]:
    """The k best items of each history, best first; of equal scores the smaller number.

    `users` are int64 user numbers for a model that knows users, -1 for who is not known.

    Returns
    -------
    items
        int64 ``[rows, min(k, catalogue)]``.
    scores
        float ``[rows, min(k, catalogue)]``; ``-inf`` where all other items are seen ones.
    """
    table_VD, _ = scorer.item_table()
    k = min(k, len(table_VD))
    best_items = np.empty((len(spans), k), dtype=np.int64)
    best_scores = np.empty((len(spans), k), dtype=np.float64)
    for rows, scores_BV in _score_chunks(scorer, items, spans, users, keep_seen):
        best_Bk, item_Bk = _top_k_of_chunk(scores_BV, k)
        best_scores[rows] = best_Bk.cpu().numpy()
        best_items[rows] = item_Bk.cpu().numpy()
    return best_items, best_scores


def _top_k_of_chunk(scores_BV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`torch.topk` picks any of equal scores: here the smaller item number wins."""
    best_Bk, item_Bk = scores_BV.topk(k, dim=1)
    # Equal scores inside the k: order by item number first, then stably by score.
    item_Bk, by_item_Bk = item_Bk.sort(dim=1)
    best_Bk, by_score_Bk = best_Bk.gather(1, by_item_Bk).sort(dim=1, descending=True, stable=True)
    item_Bk = item_Bk.gather(1, by_score_Bk)
    # Equal scores across the border of the k: rare, and worth a whole sort of that row.
    torn_B = (scores_BV >= best_Bk[:, -1:]).sum(dim=1) > k
    if torn_B.any():
        sorted_BV, order_BV = scores_BV[torn_B].sort(dim=1, descending=True, stable=True)
        best_Bk[torn_B], item_Bk[torn_B] = sorted_BV[:, :k], order_BV[:, :k]
    return best_Bk, item_Bk


def _score_chunks(
    scorer: Scorer,
    items: Int32Array,
    spans: Spans,
    users: Int64Array | None,
    keep_seen: bool,
) -> Iterator[tuple[Int64Array, Tensor]]:
    """Row numbers with their scores, ``-inf`` for seen items unless they are kept.

    The scores lie where those of the chunk before lay.
    """
    table_VD, bias_V = scorer.item_table()
    n_items, device = len(table_VD), table_VD.device
    most = _MOST_ROWS_AT_ONCE.get(device.type, _MOST_ROWS_AT_ONCE["cpu"])
    size = min(most, rows_at_once(n_items, device), max(len(spans), 1))
    buffer_BV = table_VD.new_empty(size, n_items)
    for rows in in_order(spans, size):
        chunk = spans.take(rows)
        hidden_BD = scorer.last_hidden(items, chunk, None if users is None else users[rows])
        scores_BV = buffer_BV[: len(rows)]
        if bias_V is None:
            torch.mm(hidden_BD, table_VD.T, out=scores_BV)
        else:
            torch.addmm(bias_V, hidden_BD, table_VD.T, out=scores_BV)
        # Sums see every score and are quick; finite scores may have one that is not.
        if not scores_BV.sum(dim=1).isfinite().all():
            _require_finite(scores_BV, "scores")
        if not keep_seen:
            row_S, item_S = (torch.from_numpy(seen).to(device) for seen in chunk.flat(items))
            scores_BV[row_S, item_S.long()] = -torch.inf
        yield rows, scores_BV


def _require_finite(values_T: Tensor, name: str) -> None:
    if not values_T.isfinite().all():
        raise DivergedError(
            f"{name} of the model hold NaN or infinite values, so nothing can be ranked: "
            "train again with a lower --lr"
        )
