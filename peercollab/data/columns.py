"""Which columns of a table are the user, the item and the time."""

import csv
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from peercollab.errors import PeercollabError

# In order of preference: a session stands in for the user only where there is no user.
USER_WORDS = (
    "user", "uid", "username", "visitor", "customer", "client", "member", "account", "reviewer",
    "session",
)  # fmt: skip
ITEM_WORDS = (
    "item", "iid", "product", "asin", "parentasin", "movie", "book", "isbn", "article", "track",
    "song", "artist", "video", "game", "business", "poi", "location", "news", "sku",
)  # fmt: skip
TIME_WORDS = (
    "timestamp", "time", "ts", "unixtime", "unixreviewtime", "datetime", "eventtime", "date",
    "createdat", "tdat",
)  # fmt: skip
ENDINGS = ("", "id", "idx", "code")


def fields_of(line: str, separator: str) -> list[str]:
    """The fields of one line, with quotes resolved."""
    line = line.rstrip("\r\n")
    if len(separator) > 1:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # a field longer than any name
        return line.split(separator)


def listed(names: Sequence[str]) -> str:
    """Column names for an error message."""
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def plain(name: str) -> str:
    """A column's name as it is compared: no type suffix (`:token`), case or punctuation."""
    return re.sub(r"[\W_]", "", name.partition(":")[0].lower())


def guess(names: Sequence[str], words: Sequence[str]) -> str | None:
    """The column that is named like one of `words`, the earliest word first."""
    by_plain_name = {plain(name): name for name in reversed(names)}
    candidates = (word + ending for word in words for ending in ENDINGS)
    return next((by_plain_name[name] for name in candidates if name in by_plain_name), None)


def is_header(names: Sequence[str]) -> bool:
    """Whether fields are column names: one of them is named like a user or an item."""
    return guess(names, USER_WORDS) is not None or guess(names, ITEM_WORDS) is not None


def choose(
    path: Path, names: Sequence[str], user: str | None, item: str | None, time: str | None
) -> tuple[str, str, str | None]:
    """The user, item and time columns: those asked for, the others guessed.

    Raises
    ------
    PeercollabError
        A column asked for is not there, or twice, or there is none for users or for items.
    """
    users = _find(path, names, user) if user is not None else guess(names, USER_WORDS)
    items = _find(path, names, item) if item is not None else guess(names, ITEM_WORDS)
    times = _find(path, names, time) if time is not None else guess(names, TIME_WORDS)
    for role, column in (("user", users), ("item", items)):
        if column is None:
            raise PeercollabError(
                f"{path} has no column that is recognised as the {role}; its columns: "
                f"{listed(names)}. Name it with --{role}-column"
            )
    for column in filter(None, (users, items, times)):
        if (count := list(names).count(column)) > 1:
            raise PeercollabError(
                f"{path} has {count} columns named {column}: give all but one of them another name"
            )
    if users is None or items is None or users == items:
        raise PeercollabError(
            f"{path}: column {users} is taken for both user and item; its columns: "
            f"{listed(names)}. Give --user-column and --item-column"
        )
    return users, items, times


def _find(path: Path, names: Sequence[str], wanted: str) -> str:
    """The column of this name; a type suffix (`user_id:token`) may be left out."""
    if wanted in names:
        return wanted
    for name in names:
        if name.partition(":")[0] == wanted.partition(":")[0]:
            return name
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise PeercollabError(f"{path} has no column {wanted}{hint}; its columns: {listed(names)}")
