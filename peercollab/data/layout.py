"""How a file of interactions is laid out: recognised once, stored with the run, used again.

The rules of `recognise`, in order; the file's ending plays a part only for Parquet and `.inter`:

1. Parquet, by ending or first bytes, is a table; so is `.inter` (tabs, typed header).
2. A first line with a field named like a user or an item column is a header: a table. So is any
   file for which column options are given. Options that are all numbers count the columns from
   1, and then the first line is a header only by this rule or rule 4.
3. Lines of four fields separated by `::` are MovieLens' ratings: user, item, rating, timestamp.
4. A first line without digits above lines that all have some is a header that we do not know:
   an error that lists its names.
5. Exactly two tokens on every line: `user item` pairs.
6. Three or more tokens, the same number on every one of at least two lines, not separated by
   spaces: a table without header, so an error that says how to name the columns. (Histories have
   different lengths; those separated by spaces are taken for sequences all the same.)
7. Otherwise one sequence a line. Its first token is the user if no two lines begin alike.

Blank lines play no part.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import ArrowInvalid

from peercollab.command_line import unless_given
from peercollab.data.columns import choose, fields_of, is_header, listed
from peercollab.data.files import check_file, is_parquet, read_head, read_text
from peercollab.data.tokens import cut
from peercollab.errors import PeercollabError

LayoutKind = Literal["sequences", "user-sequences", "pairs", "table"]

SEPARATORS = {"\t": "tabs", "::": "'::'", ";": "semicolons", ",": "commas", " ": "spaces"}
JSON_BEGINS = ('{"', "[{", "[[")


NO_TIME = "no time column, so rows are taken to be in time order"


@dataclass(frozen=True)
class ReadOptions:
    """Reading the data file."""

    layout: Literal["auto", "sequences", "user-sequences", "pairs", "table"] = "auto"
    """A line is a user's items (sequences), the same after the user, a pair, or a table's row."""
    user_column: Annotated[str | None, unless_given("guessed")] = None
    """Column of the user, by name, or by number from 1."""
    item_column: Annotated[str | None, unless_given("guessed")] = None
    """Column of the item."""
    time_column: Annotated[str | None, unless_given("guessed")] = None
    """Column of the time; without one, rows are in time order."""

    @property
    def columns(self) -> tuple[str | None, str | None, str | None]:
        return self.user_column, self.item_column, self.time_column


@dataclass(frozen=True)
class Layout:
    """How a file of interactions is laid out; ``Layout(**dataclasses.asdict(layout))`` is equal.

    Attributes
    ----------
    kind
        sequences: one user a line, who is called by the line's number ("1", "2", ...);
        user-sequences: the same, the first token is the user; pairs: lines of user and item,
        in time order; table: rows with columns.
    separator
        Between the tokens or fields of text.
    file_format
        text or parquet.
    header
        Whether a table's first line names its columns.
    user_column, item_column, time_column
        A table's columns: names, or numbers from 1 where there is no header. Without a time
        column, rows are in time order.
    guessed
        Whether something was recognised that an option could have said.
    """

    kind: LayoutKind
    separator: str = " "
    file_format: Literal["text", "parquet"] = "text"
    header: bool = False
    user_column: str | None = None
    item_column: str | None = None
    time_column: str | None = None
    guessed: bool = False

    @classmethod
    def csv(cls, user: str, item: str, time: str | None = None) -> "Layout":
        """A comma-separated table with these column names in its first line."""
        return cls("table", ",", "text", True, user, item, time)

    def describe(self) -> str:
        """One line in words, with the option that overrides what was guessed."""
        if self.kind == "table":
            return self._describe_table()
        form, hint = {
            "sequences": (
                "one user a line, no user id",
                "if the first token is the user: --layout user-sequences",
            ),
            "user-sequences": (
                "one user a line, first token is the user",
                "if the first token is an item: --layout sequences",
            ),
            "pairs": (
                "one user and item a line, in time order",
                "if lines are sequences: --layout sequences or user-sequences",
            ),
        }[self.kind]
        text = f"{form}, separated by {SEPARATORS[self.separator]}"
        return f"{text}; {hint}" if self.guessed else text

    def _describe_table(self) -> str:
        if self.file_format == "parquet":
            form = "Parquet table"
        else:
            form = f"table separated by {SEPARATORS[self.separator]}"
        if not self.header:
            form += ", columns by number"
        time = f"time = {self.time_column}" if self.time_column else NO_TIME
        text = f"{form}: user = {self.user_column}, item = {self.item_column}, {time}"
        hint = "; guessed: --user-column, --item-column and --time-column override"
        return text + hint if self.guessed else text


def recognise(path: Path, options: ReadOptions) -> Layout:
    """How the file is laid out, by the rules at the head of this module.

    Raises
    ------
    PeercollabError
        The file cannot be read, is not text, or its columns are not recognised.
    """
    check_file(path)
    wants_columns = any(column is not None for column in options.columns)
    if wants_columns and options.layout not in ("auto", "table"):
        raise PeercollabError(
            f"--layout {options.layout} has no columns: leave the column options out, "
            "or take --layout table"
        )
    if is_parquet(path):
        if options.layout not in ("auto", "table"):
            raise PeercollabError(f"{path} is a Parquet table: leave --layout {options.layout} out")
        user, item, time = choose(path, parquet_names(path), *options.columns)
        return Layout("table", "", "parquet", True, user, item, time, None in options.columns)
    lines = [line for line in read_head(path).split("\n") if line.strip()]
    if not lines:
        raise PeercollabError(f"{path} has only blank lines: give a file with interactions in it")
    if lines[0].startswith(JSON_BEGINS):
        raise PeercollabError(f"{path} looks like JSON, which is not read: give CSV or Parquet")
    is_inter = path.suffix.lower() == ".inter"
    separator = "\t" if is_inter else likely_separator(lines)
    if options.layout in ("sequences", "user-sequences", "pairs"):
        return Layout(options.layout, separator)
    first = fields_of(lines[0], separator)
    is_known = is_inter or is_header(first)
    is_unknown_header = len(first) > 1 and _is_unknown_header(lines)
    if is_known or wants_columns:
        return _text_table(path, first, options, separator, header=is_known or is_unknown_header)
    if separator == "::" and all(line.count(separator) == 3 for line in lines):
        return Layout("table", "::", "text", False, "1", "2", "4", guessed=True)
    if options.layout == "table" or is_unknown_header:
        raise _unknown_columns(path, first)
    return _without_columns(path, first, separator)


def recognise_columns(path: Path, known: Layout) -> Layout:
    """The layout of another table with the columns of `known`, be it CSV, TSV or Parquet.

    Raises
    ------
    PeercollabError
        A column is missing (it is named), or the file cannot be read.
    """
    options = ReadOptions("table", known.user_column, known.item_column, known.time_column)
    return replace(recognise(path, options), time_column=known.time_column, guessed=False)


def likely_separator(lines: Sequence[str]) -> str:
    """The separator that most lines have, and have most often; a space if there is none.

    Spaces come last: they also stand within fields and after commas.
    """

    def evidence(separator: str) -> tuple[int, int]:
        often = 0 if separator == " " else sum(line.count(separator) for line in lines)
        return sum(separator in line for line in lines), often

    likely = max(SEPARATORS, key=evidence)
    return likely if any(likely in line for line in lines) else " "


def parquet_names(path: Path) -> list[str]:
    """The columns of a Parquet file."""
    try:
        return list(pq.read_schema(path).names)
    except ArrowInvalid as error:
        raise PeercollabError(f"{path} is not a Parquet file, or it is cut short") from error


def _text_table(
    path: Path, first: Sequence[str], options: ReadOptions, separator: str, *, header: bool
) -> Layout:
    """A text table whose first line has the fields `first`: column names, if `header`."""
    numbers = [str(number) for number in range(1, len(first) + 1)]
    given = [column for column in options.columns if column is not None]
    by_number = bool(given) and all(column.isdecimal() for column in given)
    names = first if header or not by_number else numbers
    if by_number and header:
        name_of = dict(zip(numbers, first, strict=True))
        user, item, time = (name_of.get(column or "", column) for column in options.columns)
        options = ReadOptions("table", user, item, time)
    user, item, time = choose(path, names, *options.columns)
    guessed = None in options.columns
    return Layout("table", separator, "text", names is first, user, item, time, guessed)


def _without_columns(path: Path, first: Sequence[str], separator: str) -> Layout:
    """Pairs or sequences: decided on the whole file."""
    tokens = cut(path, read_text(path), separator)
    counts = tokens.counts[tokens.counts > 0]
    alike = len(counts) > 1 and bool((counts == counts[0]).all())
    if (counts == 2).all():
        return Layout("pairs", separator, guessed=True)
    if alike and counts[0] > 2 and separator != " ":
        raise _unknown_columns(path, first)
    first_tokens = tokens.values.take(counts.cumsum() - counts)
    all_differ = pc.count_distinct(first_tokens).as_py() == len(counts)
    if all_differ and counts.max() > 1:
        return Layout("user-sequences", separator, guessed=True)
    return Layout("sequences", separator, guessed=True)


def _is_unknown_header(lines: Sequence[str]) -> bool:
    """Whether the first line has no digit and all others of the sample have some."""
    return (
        len(lines) > 1
        and not re.search(r"\d", lines[0])
        and all(re.search(r"\d", line) for line in lines[1:])
    )


def _unknown_columns(path: Path, first: Sequence[str]) -> PeercollabError:
    return PeercollabError(
        f"{path}: no user and item column is recognised; the first line has: {listed(first)}\n"
        "Give --user-column and --item-column (names, or numbers from 1 if there are no names), "
        "or --layout sequences, user-sequences or pairs"
    )
