"""Recommendations from the kept model of a run, with the user's own ids in and out."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import nn

from peercollab.data.split import Spans
from peercollab.errors import PeercollabError
from peercollab.models.model import ModelSettings, SequenceModel
from peercollab.models.options import GivenModel, ModelOptions
from peercollab.models.own_model import MakeNetwork, OwnModelOptions
from peercollab.models.saved import is_own_in, load_model
from peercollab.results.run_folder import BEST, ITEMS, USERS, of_this_version, read_config
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
    user_ids
        object (str) ``[users]``: own id of each user number, of a model that knows users.
    """

    def __init__(
        self,
        model: SequenceModel,
        item_ids: np.ndarray,
        counts_V: np.ndarray,
        device: torch.device,
        user_ids: np.ndarray | None = None,
    ) -> None:
        self._user_number_of = (
            None if user_ids is None else {user: number for number, user in enumerate(user_ids)}
        )
        self._item_ids = item_ids
        self._number_of = {item: number for number, item in enumerate(item_ids)}
        self._by_model = ModelScorer(model, device)
        self._by_popularity = Popularity(counts_V)

    @classmethod
    def load(
        cls,
        run: str | Path,
        device: str = "cpu",
        *,
        model: str | MakeNetwork | nn.Module | None = None,
    ) -> Self:
        """The recommender of a run folder in which at least one round was completed.

        Parameters
        ----------
        run
            The folder.
        device
            Where the model is to be.
        model
            Of a run with a network of your own that network, as `peercollab.fit` takes it, or as
            ``path/to/file.py:Name``: a folder may come from somebody else, so that it cannot name
            code that is executed.

        Raises
        ------
        PeercollabError
            It is no run folder, a file in it is missing or damaged, or its model has to be named.
        """
        config = read_config(Path(run))
        best = Path(run) / BEST
        on = torch.device(device)
        scorer = load_model(
            best, on, None if model is None else _settings(model, config, Path(run))
        )
        try:
            items = pd.read_parquet(best / ITEMS)
            item_ids = items["item"].to_numpy(dtype=object)
            counts_V = items["interactions"].to_numpy(dtype=np.int64)
            user_ids = None
            if (best / USERS).exists():
                user_ids = pd.read_parquet(best / USERS)["user"].to_numpy(dtype=object)
        except (OSError, ValueError, KeyError) as error:
            raise PeercollabError(
                f"{best / ITEMS} or {USERS} is missing or damaged: {error}"
            ) from error
        if len(item_ids) != len(scorer.item_table()[0]):
            raise PeercollabError(f"{best / ITEMS} does not belong to the model beside it")
        return cls(scorer, item_ids, counts_V, on, user_ids)

    def unknown_users(self, histories: Mapping[str, Sequence[str]]) -> list[str]:
        """Users that a model of users was not trained on, in order; none for other models.

        For them a vector is made of the items in their history; who has none that is known gets
        the most popular items, and is not among them.
        """
        known = self._user_number_of
        if known is None:
            return []
        return [
            str(user)
            for user, history in histories.items()
            if str(user) not in known and any(str(item) in self._number_of for item in history)
        ]

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
            with a warning; a user with no known item gets the most popular items. A model of
            users (BPR-MF) takes a user that it was trained on by the id, and the history, which
            may be empty, for no more than what was seen; of others it makes a vector from the items
            in the history.
        k
            Items a user; fewer come where the catalogue has no more.
        keep_seen
            Recommend items of the history, too.

        Returns
        -------
        pandas.DataFrame
            Columns user (str), item (str), rank (int, from 1), score (float) and source: "model",
            "fold-in" of a user that a model of users was not trained on, or "popularity", where
            the score is the item's number of training interactions.
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
        everyone = list(histories)
        users = self._user_numbers(everyone)
        by_model = np.array([bool(history) for history in known], dtype=bool)
        if users is not None:
            by_model |= users >= 0
        rows, others = np.flatnonzero(by_model), np.flatnonzero(~by_model)
        items, spans = _end_to_end([known[row] for row in rows])
        users = None if users is None else users[rows]
        best, scores = top_k(self._by_model, items, spans, k, keep_seen=keep_seen, users=users)
        sources = np.where(users < 0, "fold-in", "model") if users is not None else "model"
        popular = np.tile(self._by_popularity.order_V[:k], (len(others), 1))
        counts = self._by_popularity.counts_V[popular].astype(np.float64)
        table = pd.concat(
            [
                self._frame(rows, best, scores, sources),
                self._frame(others, popular, counts, "popularity"),
            ]
        ).sort_values(["user", "rank"], kind="stable", ignore_index=True)
        ids = np.array([str(user) for user in everyone], dtype=object)
        return table.assign(user=ids[table["user"].to_numpy(dtype=np.int64)])

    def _user_numbers(self, users: Iterable[str]) -> np.ndarray | None:
        """int64: the number of each user, -1 for who is not known; None if the model knows none."""
        known = self._user_number_of
        if known is None:
            return None
        return np.array([known.get(str(user), -1) for user in users], dtype=np.int64)

    def _frame(
        self, rows: np.ndarray, best: np.ndarray, scores: np.ndarray, source: str | np.ndarray
    ) -> pd.DataFrame:
        """Long form, with users as row numbers for now; items that may not be given left out."""
        n_rows, k = best.shape
        frame = pd.DataFrame(
            {
                "user": np.repeat(rows, k),
                "item": self._item_ids[best.ravel()],
                "rank": np.tile(np.arange(1, k + 1), n_rows),
                "score": scores.ravel(),
                "source": source if isinstance(source, str) else np.repeat(source, k),
            }
        )
        return frame[np.isfinite(frame["score"])]


def _settings(
    model: str | MakeNetwork | nn.Module, config: Mapping[str, Any], run: Path
) -> ModelSettings:
    """What the user says that the run's network is, made with the options that the run had.

    Raises
    ------
    PeercollabError
        The run has a model with a name, which says by itself what it is, or it is of another
        version of peercollab.
    """
    with of_this_version(run):
        options = {name: of for name, of in config["model"].items() if name != "model"}
        options = {n: tuple(of) if isinstance(of, list) else of for n, of in options.items()}
        made = (
            ModelOptions(model, **options)
            if isinstance(model, str)
            else GivenModel(model, **options)
        )
    # The user's code is run here: what it raises is no damage.
    settings = made.build()
    if not isinstance(settings, OwnModelOptions) or not is_own_in(run / BEST):
        raise PeercollabError(
            f"the model in {run / BEST} says by itself what it is: leave --model out"
        )
    return settings


def _end_to_end(histories: Sequence[Sequence[int]]) -> tuple[np.ndarray, Spans]:
    """Histories as one int32 array, and where each lies in it."""
    ends = np.cumsum([len(history) for history in histories], dtype=np.int64)
    starts = ends - np.array([len(history) for history in histories], dtype=np.int64)
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    return items, Spans(starts, ends)
