"""Interactions to sequences: the rare ones dropped, each user's in time order."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from peercollab.data.ids import renumber
from peercollab.data.read import Interactions
from peercollab.data.sequences import Histories, Int64Array, SequenceData
from peercollab.errors import PeercollabError


@dataclass(frozen=True)
class PrepareOptions:
    """Preparing the data."""

    min_interactions: int = 5
    """Users and items with fewer are dropped, repeatedly until none is left; 1 keeps all."""
    filter_once: bool = False
    """Drop only once, counting users and items at the same time, as published."""

    def __post_init__(self) -> None:
        if self.min_interactions < 1:
            raise PeercollabError(
                f"--min-interactions is {self.min_interactions}: give 1 (keep all) or more"
            )


@dataclass(frozen=True)
class Size:
    """How much there is."""

    users: int
    items: int
    interactions: int

    def __str__(self) -> str:
        return f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions"


@dataclass(frozen=True)
class PreparationCounts:
    """What there was, and what is left."""

    before: Size
    after: Size
    options: PrepareOptions

    def describe(self) -> str:
        """One line if nothing was dropped, else two."""
        if self.before == self.after:
            return f"{self.before}; nothing dropped"
        how = "dropped once" if self.options.filter_once else "dropped until none is left"
        least = self.options.min_interactions
        return (
            f"{self.before}\n{self.after} after users and items with fewer than {least} "
            f"interactions were {how}"
        )


def prepare(
    interactions: Interactions, options: PrepareOptions
) -> tuple[SequenceData, PreparationCounts]:
    """Drop rare users and items, and lay the histories end to end.

    A user's items are in time order; ties, and files without times, keep the file's order. Users
    and items are numbered by their sorted ids, so with distinct times the order of the file's
    rows changes nothing.

    Raises
    ------
    PeercollabError
        Fewer than two users or items are left.
    """
    rows = _rows_to_keep(interactions, options)
    users, user_ids = renumber(interactions.users[rows], interactions.user_ids)
    items, item_ids = renumber(interactions.items[rows], interactions.item_ids)
    before = Size(len(interactions.user_ids), len(interactions.item_ids), len(interactions))
    after = Size(len(user_ids), len(item_ids), len(rows))
    _refuse_too_few(interactions, before, after, options)
    order = _by_user_and_time(
        users, None if interactions.times is None else interactions.times[rows]
    )
    data = SequenceData(
        histories=Histories(
            items=items[order].astype(np.int32),
            offsets=_offsets(users, len(user_ids)),
            n_items=len(item_ids),
        ),
        user_ids=user_ids,
        item_ids=item_ids,
    )
    return data, PreparationCounts(before, after, options)


def own_histories(interactions: Interactions) -> list[tuple[str, list[str]]]:
    """Each user's own items in time order, in own ids; users in the order of the file.

    Users without items, kept by ``allow_empty``, have an empty list. Nothing is dropped.
    """
    order = _by_user_and_time(interactions.users, interactions.times)
    items = interactions.item_ids[interactions.items[order]]
    offsets = _offsets(interactions.users, len(interactions.user_ids))
    users = interactions.users_as_named
    return [
        (interactions.user_ids[user], items[offsets[user] : offsets[user + 1]].tolist())
        for user in (pd.unique(interactions.users) if users is None else users)
    ]


def _rows_to_keep(interactions: Interactions, options: PrepareOptions) -> Int64Array:
    """int64: the rows of users and items with enough interactions, in order."""
    rows = np.arange(len(interactions))
    users, items = interactions.users, interactions.items
    while True:
        keep = np.bincount(users)[users] >= options.min_interactions
        keep &= np.bincount(items)[items] >= options.min_interactions
        if keep.all():
            return rows
        rows, users, items = rows[keep], users[keep], items[keep]
        if options.filter_once:
            return rows


def _by_user_and_time(users: Int64Array, times: np.ndarray | None) -> Int64Array:
    """int64: the order by user, then time; stable."""
    if times is None:
        return np.argsort(users, kind="stable")
    return np.lexsort((times, users))


def _offsets(users: Int64Array, n_users: int) -> Int64Array:
    """int64 ``[n_users + 1]``: where each user's rows begin once they are ordered by user."""
    return np.concatenate([[0], np.cumsum(np.bincount(users, minlength=n_users))])


def _refuse_too_few(
    interactions: Interactions, before: Size, after: Size, options: PrepareOptions
) -> None:
    least = options.min_interactions
    read_as = f"read as: {interactions.layout.describe()}"
    longest = int(np.bincount(interactions.users).max())
    if before.users < 2:
        raise PeercollabError(f"there is one user, and at least 2 are needed ({read_as})")
    if before.items < 2:
        raise PeercollabError(f"there is one item, and at least 2 are needed ({read_as})")
    if longest < least:
        raise PeercollabError(
            f"all {before.users:,} users have fewer than {least} interactions (the longest "
            f"history has {longest}): lower --min-interactions, or give more data\n({read_as})"
        )
    if after.users < 2 or after.items < 2:
        raise PeercollabError(
            f"of {before} too little is left with at least {least} interactions for each user and "
            f"item: {after}; at least 2 users and 2 items are needed\n"
            f"lower --min-interactions ({read_as})"
        )
