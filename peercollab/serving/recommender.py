"""Recommendations from the kept model of a run, with the user's own ids in and out."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch

from peercollab.data.split import Spans
from peercollab.errors import PeercollabError
from peercollab.models.model import SequenceModel
from peercollab.models.saved import load_model
from peercollab.results.run_folder import BEST, ITEMS, read_config
from peercollab.training.popularity import Popularity
from peercollab.training.scoring import ModelScorer, top_k

COLUMNS = ("user", "item", "rank", "score", "source")


class Recommender:
    """The kept model with its catalogue. Make one with `load`.

    Parameters
    ----------
    model
        In evaluation mode, on `device`.
    item_ids
        object (str) ``[items]``: own id of each item number.
    counts_V
        int64 ``[items]``: training interactions of each item, for users nothing is known of.
    device
        Where the model lives.
    """

    def __init__(
        self, model: SequenceModel, item_ids: np.ndarray, counts_V: np.ndarray, device: torch.device
    ) -> None:
        self._item_ids = item_ids
        self._number_of = {item: number for number, item in enumerate(item_ids)}
        self._by_model = ModelScorer(model, device)
        self._by_popularity = Popularity(counts_V)

    @classmethod
    def load(cls, run: str | Path, device: str = "cpu") -> Self:
        """The recommender of a run folder in which at least one round was completed.

        Raises
        ------
        PeercollabError
            It is no run folder, or a file in it is missing or damaged.
        """
        read_config(Path(run))
        best = Path(run) / BEST
        on = torch.device(device)
        model = load_model(best, on)
        try:
            items = pd.read_parquet(best / ITEMS)
            item_ids = items["item"].to_numpy(dtype=object)
            counts_V = items["interactions"].to_numpy(dtype=np.int64)
        except (OSError, ValueError, KeyError) as error:
            raise PeercollabError(f"{best / ITEMS} is missing or damaged: {error}") from error
        if len(item_ids) != len(model.item_table()[0]):
            raise PeercollabError(f"{best / ITEMS} does not belong to the model beside it")
        return cls(model, item_ids, counts_V, on)

    def unknown_items(self, histories: Mapping[str, Sequence[str]]) -> list[str]:
        """Items of the histories that the model was not trained on, each once, sorted."""
        items = {str(item) for history in histories.values() for item in history}
        return sorted(items - self._number_of.keys())

    def recommend(
        self, histories: Mapping[str, Sequence[str]], k: int = 10, *, keep_seen: bool = False
    ) -> pd.DataFrame:
        """The k best items for every user.

        Parameters
        ----------
        histories
            Own item ids of each user in time order, the latest last. Unknown items are skipped
            with a warning; a user with no known item gets the most popular items.
        k
            Items a user; fewer come where the catalogue has no more.
        keep_seen
            Recommend items of the history, too.

        Returns
        -------
        pandas.DataFrame
            Columns user (str), item (str), rank (int, from 1), score (float) and source: "model",
            or "popularity", where the score is the item's number of training interactions.
            Users stand in the order of `histories`.
        """
        if k < 1:
            raise PeercollabError(f"--k is {k}: give 1 or more")
        if unknown := self.unknown_items(histories):
            warnings.warn(
                f"items unknown to the model were skipped ({len(unknown)} in all), such as "
                f"{unknown[0]!r}",
                stacklevel=2,
            )
        known = [
            [self._number_of[str(item)] for item in history if str(item) in self._number_of]
            for history in histories.values()
        ]
        has_history = np.array([bool(history) for history in known], dtype=bool)
        rows, others = np.flatnonzero(has_history), np.flatnonzero(~has_history)
        items, spans = _end_to_end([known[row] for row in rows])
        best, scores = top_k(self._by_model, items, spans, k, keep_seen=keep_seen)
        popular = np.tile(self._by_popularity.order_V[:k], (len(others), 1))
        counts = self._by_popularity.counts_V[popular].astype(np.float64)
        table = pd.concat(
            [
                self._frame(rows, best, scores, "model"),
                self._frame(others, popular, counts, "popularity"),
            ]
        ).sort_values(["user", "rank"], kind="stable", ignore_index=True)
        users = np.array([str(user) for user in histories], dtype=object)
        return table.assign(user=users[table["user"].to_numpy(dtype=np.int64)])

    def _frame(
        self, rows: np.ndarray, best: np.ndarray, scores: np.ndarray, source: str
    ) -> pd.DataFrame:
        """Long form, with users as row numbers for now; items that may not be given left out."""
        n_rows, k = best.shape
        frame = pd.DataFrame(
            {
                "user": np.repeat(rows, k),
                "item": self._item_ids[best.ravel()],
                "rank": np.tile(np.arange(1, k + 1), n_rows),
                "score": scores.ravel(),
                "source": source,
            }
        )
        return frame[np.isfinite(frame["score"])]


def _end_to_end(histories: Sequence[Sequence[int]]) -> tuple[np.ndarray, Spans]:
    """Histories as one int32 array, and where each lies in it."""
    ends = np.cumsum([len(history) for history in histories], dtype=np.int64)
    starts = ends - np.array([len(history) for history in histories], dtype=np.int64)
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    return items, Spans(starts, ends)
