"""Rank the whole catalogue for histories, a chunk of rows at a time: targets' ranks, or the top k.

The scores ``[users, items]`` never exist as a whole, and nothing is sampled.
"""

from collections.abc import Iterator
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

_MOST_ROWS_AT_ONCE = 256

# Rows that go through the network at once: on a CPU few enough that they stay in its cache.
_ROWS_OF_A_PASS = {"cpu": 64}


class Scorer(Protocol):
    """Whatever scores items as ``hidden_BD @ table_VD.T + bias_V``."""

    def last_hidden(self, items: Int32Array, spans: Spans) -> Tensor:
        """A hidden state for each span of `items`, none of which is empty."""

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        """``table_VD`` and ``bias_V``."""


class ModelScorer:
    """A model in evaluation mode, asked for the hidden state after a history's last item."""

    def __init__(self, model: SequenceModel, device: torch.device) -> None:
        self._model = model
        self._device = device

    def last_hidden(self, items: Int32Array, spans: Spans) -> Tensor:
        latest = spans.last(self._model.max_length)
        size = _ROWS_OF_A_PASS.get(self._device.type, len(spans))
        parts = np.split(np.arange(len(spans)), range(size, len(spans), size))
        return torch.cat(
            [
                self._model.last_hidden(lay_out(items, latest.take(part)).to(self._device))
                for part in parts
            ]
        )

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        return self._model.item_table()


class PopularityScorer:
    """Every item's score is the number of its training interactions, whoever asks."""

    def __init__(self, counts_V: Int64Array) -> None:
        # float64 holds every count exactly.
        self._table_VD = torch.from_numpy(counts_V.astype(np.float64))[:, None]

    def last_hidden(self, items: Int32Array, spans: Spans) -> Tensor:
        return torch.ones(len(spans), 1, dtype=torch.float64)

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        return self._table_VD, None


@torch.inference_mode()
def rank_targets(
    scorer: Scorer, items: Int32Array, queries: Queries, *, keep_seen: bool
) -> Int32Array:
    """The rank of each query's target among all items.

    The rank is 1 + the number of items that score higher + the number of equal-scoring items
    with a smaller number. Unless `keep_seen`, the items of the user's history are left out; a
    target among them is not ranked, and gets `MISS`.

    Returns
    -------
    int32 ``[queries]``

    Raises
    ------
    DivergedError
        A score is not a finite number.
    """
    ranks_U = np.empty(len(queries), dtype=np.int32)
    for rows, scores_BV in _score_chunks(scorer, items, queries.spans, keep_seen):
        target_B1 = torch.from_numpy(queries.targets[rows].astype(np.int64))[:, None]
        target_B1 = target_B1.to(scores_BV.device)
        own_B1 = scores_BV.gather(1, target_B1)
        item_V = torch.arange(scores_BV.shape[1], device=scores_BV.device)
        before_BV = (scores_BV > own_B1) | ((scores_BV == own_B1) & (item_V < target_B1))
        rank_B = 1 + before_BV.sum(dim=1, dtype=torch.int32)
        rank_B[own_B1.squeeze(1) == -torch.inf] = MISS
        ranks_U[rows] = rank_B.cpu().numpy()
    return ranks_U


@torch.inference_mode()
def top_k(
    scorer: Scorer, items: Int32Array, spans: Spans, k: int, *, keep_seen: bool
) -> tuple[Int64Array, np.ndarray]:
    """The k best items of each history, best first; of equal scores the smaller number.

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
    for rows, scores_BV in _score_chunks(scorer, items, spans, keep_seen):
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
    scorer: Scorer, items: Int32Array, spans: Spans, keep_seen: bool
) -> Iterator[tuple[Int64Array, Tensor]]:
    """Row numbers with their scores, ``-inf`` for seen items unless they are kept."""
    table_VD, bias_V = scorer.item_table()
    _require_finite(table_VD, "the item table")
    size = min(_MOST_ROWS_AT_ONCE, rows_at_once(len(table_VD), table_VD.device))
    for rows in in_order(spans, size):
        chunk = spans.take(rows)
        hidden_BD = scorer.last_hidden(items, chunk)
        _require_finite(hidden_BD, "hidden states")
        scores_BV = hidden_BD @ table_VD.T
        if bias_V is not None:
            scores_BV += bias_V
        if not keep_seen:
            row_S, item_S = _seen(items, chunk)
            scores_BV[row_S.to(scores_BV.device), item_S.to(scores_BV.device)] = -torch.inf
        yield rows, scores_BV


def _seen(items: Int32Array, spans: Spans) -> tuple[Tensor, Tensor]:
    """Row and item number of everything in the spans, each int64 ``[seen]``."""
    row = np.repeat(np.arange(len(spans)), spans.lengths)
    first_of_row = np.cumsum(spans.lengths) - spans.lengths
    at = spans.starts[row] + np.arange(len(row)) - first_of_row[row]
    return torch.from_numpy(row), torch.from_numpy(items[at].astype(np.int64))


def _require_finite(values_T: Tensor, name: str) -> None:
    if not values_T.isfinite().all():
        raise DivergedError(
            f"{name} of the model hold NaN or infinite values, so nothing can be ranked: "
            "train again with a lower --lr"
        )
