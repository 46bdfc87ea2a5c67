"""Every format gives the same interactions; every flaw of a file is told with its place."""

import bz2
import csv
import datetime
import gzip
import json
import lzma
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peercollab.data.layout import Layout, ReadOptions
from peercollab.data.read import Interactions, read_interactions
from peercollab.errors import PeercollabError

Triple = tuple[str, str, float | None]

LOG: list[Triple] = [
    ("b", "10", 5.0),
    ("a", "9", 7.0),
    ("b", "9", 1.0),
    ("a", "10", 2.0),
    ("a", "8", 2.0),
    ("a", "9", 9.0),
]

ODD_IDS = [
    "a/b\\c", "café", "cafe\u0301", "x,y", 'say "hi"', '"', "'", "a;b", "a::b", " lead", "007", "7",
    "日本", "🎵", "#1", "--k", "a\u00a0b", "1.0", "1e3", "-", "a\u2028b", "NULLABLE", "nanna", "Ω",
]  # fmt: skip


def write(folder: Path, content: str | bytes, name: str = "data.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def triples(interactions: Interactions) -> list[Triple]:
    """What was read, in own ids and the file's order."""
    times = interactions.times
    return [
        (
            interactions.user_ids[user],
            interactions.item_ids[item],
            None if times is None else float(times[row]),
        )
        for row, (user, item) in enumerate(zip(interactions.users, interactions.items, strict=True))
    ]


def read(path: Path, **options: Any) -> list[Triple]:
    return triples(read_interactions(path, ReadOptions(**options)))


def untimed(log: list[Triple]) -> list[Triple]:
    return [(user, item, None) for user, item, _ in log]


def refusal(
    path: Path, *, layout: Layout | None = None, allow_empty: bool = False, **options: Any
) -> str:
    with pytest.raises(PeercollabError) as caught:
        read_interactions(path, ReadOptions(**options), layout=layout, allow_empty=allow_empty)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) <= 2
    return message


# Formats


def test_numbers_follow_the_sorted_ids_and_rows_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,time\n" + "".join(f"{u},{i},{t:.0f}\n" for u, i, t in LOG))
    interactions = read_interactions(path, ReadOptions())
    assert list(interactions.user_ids) == ["a", "b"]
    assert list(interactions.item_ids) == ["10", "8", "9"]
    assert interactions.users.tolist() == [1, 0, 1, 0, 0, 0]
    assert interactions.items.tolist() == [0, 2, 2, 0, 1, 2]
    assert interactions.times is not None
    assert interactions.times.tolist() == [5, 7, 1, 2, 2, 9]
    assert interactions.users.dtype == interactions.items.dtype == np.int64
    assert interactions.times.dtype == np.int64
    assert interactions.user_ids.dtype == interactions.item_ids.dtype == object
    assert all(type(i) is str for i in (*interactions.user_ids, *interactions.item_ids))


@pytest.mark.parametrize("separator", [",", ";", "\t", "::", " "])
def test_text_tables_give_the_same_whatever_separates_them(tmp_path: Path, separator: str) -> None:
    lines = [separator.join(("user", "x", "item", "time"))]
    lines += [separator.join((u, "0", i, str(t))) for u, i, t in LOG]
    assert read(write(tmp_path, "\n".join(lines))) == LOG
    assert read(write(tmp_path, "\r\n".join(lines) + "\r\n")) == LOG
    assert read(write(tmp_path, "\ufeff" + "\n".join(lines) + "\n\n")) == LOG
    assert read(write(tmp_path, "\n\n" + "\n\n".join(lines))) == LOG


def test_inter_and_movielens_dat(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    body = "".join(f"{u}\t{i}\t3\t{t}\n" for u, i, t in LOG)
    assert read(write(tmp_path, header + body, "x.inter")) == LOG
    dat = "".join(f"{u}::{i}::3::{t:.0f}\n" for u, i, t in LOG)
    assert read(write(tmp_path, dat, "ratings.dat")) == LOG


def test_headerless_table_by_column_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "".join(f"{i},{t:.0f},x,{u}\n" for u, i, t in LOG), "x.csv")
    assert read(path, user_column="4", item_column="1", time_column="2") == LOG
    assert read(path, user_column="4", item_column="1") == untimed(LOG)


@pytest.mark.parametrize("separator", [" ", ",", "\t", "::"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", " \n", "\n\n"])
def test_sequences_and_pairs(tmp_path: Path, separator: str, ending: str) -> None:
    def lines(rows: list[list[str]]) -> str:
        return "".join(separator.join(row) + ending for row in rows)

    pairs = write(tmp_path, lines([[user, item] for user, item, _ in LOG]))
    assert read(pairs, layout="pairs") == untimed(LOG)
    ab = [("a", "9"), ("a", "10"), ("a", "8"), ("b", "10"), ("b", "9")]
    named = write(tmp_path, lines([["a", "9", "10", "8"], ["b", "10", "9"]]))
    assert read(named) == [(user, item, None) for user, item in ab]
    bare = write(tmp_path, lines([["9", "10", "8"], ["9", "10"]]))
    second = "3" if ending == "\n\n" else "2"
    assert read(bare) == [
        *(("1", item, None) for item in ("9", "10", "8")),
        *((second, item, None) for item in ("9", "10")),
    ]


def test_last_line_needs_no_line_feed(tmp_path: Path) -> None:
    assert read(write(tmp_path, "9 10 8\n9 7")) == read(write(tmp_path, "9 10 8\n9 7\n"))


def test_parquet_gives_the_same_for_text_numbers_and_categories(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    log: list[Triple] = [("2", "10", 5.0), ("1", "9", 7.0), ("2", "-9", 1.0)]
    whole = [int(item) for _, item, _ in log]
    users = [int(user) for user, _, _ in log]
    kinds = [
        pa.array(whole, pa.int16()),
        pa.array(whole, pa.int64()),
        pa.array(whole, pa.float32()),
        pa.array(whole, pa.float64()),
        pa.array([Decimal(i) for i in whole], pa.decimal128(20, 2)),
        pa.array([str(i) for i in whole], pa.string()),
        pa.array([str(i) for i in whole], pa.large_string()),
        pa.array([str(i) for i in whole], pa.string_view()),
        pa.array([str(i) for i in whole]).dictionary_encode(),
        pa.array(whole).dictionary_encode(),
    ]
    for items in kinds:
        table = pa.table(
            {"user_id": pa.array(users, pa.uint32()), "item_id": items, "ts": [5, 7, 1]}
        )
        pq.write_table(table, path, row_group_size=2)
        assert read(path) == log, items.type


def test_parquet_category_without_rows_is_no_item(tmp_path: Path) -> None:
    items = pd.Categorical(["a", "c"], categories=["c", "b", "a"])
    pd.DataFrame({"user": [1, 2], "item": items}).to_parquet(tmp_path / "x.parquet")
    interactions = read_interactions(tmp_path / "x.parquet", ReadOptions())
    assert list(interactions.item_ids) == ["a", "c"]


def test_odd_ids_stay_as_they_are(tmp_path: Path) -> None:
    ids = [*ODD_IDS, "NA", "NaN"]
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["user", "item"])
        writer.writerows([user, item] for user, item in zip(ids, reversed(ids), strict=True))
    expected = [(user, item, None) for user, item in zip(ids, reversed(ids), strict=True)]
    assert read(tmp_path / "x.csv") == expected
    pd.DataFrame({"user": ODD_IDS, "item": ODD_IDS}).to_parquet(tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == [(i, i, None) for i in ODD_IDS]


def test_odd_ids_in_sequences(tmp_path: Path) -> None:
    plain = [i.strip() for i in ODD_IDS if "," not in i and '"' not in i]
    path = write(tmp_path, ",".join(plain) + "\n" + ",".join(plain[:1] + plain[3:]) + "\n")
    assert [item for user, item, _ in read(path) if user == "1"] == plain
    quoted = write(tmp_path, 'a,"x,y","say ""hi""",5" disc\na,b\n\na,"x,y"\n')
    assert [(user, item) for user, item, _ in read(quoted)] == [
        ("1", "a"), ("1", "x,y"), ("1", 'say "hi"'), ("1", '5" disc'),
        ("2", "a"), ("2", "b"), ("4", "a"), ("4", "x,y"),
    ]  # fmt: skip


@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_characters="\0\r\n", codec="utf-8"))] * 2),
        min_size=1,
    )
)
def test_any_quoted_ids_come_back_from_csv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    rows = [(f"u{user}", f"i{item}") for user, item in rows]
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("user", "item"), *rows])
    interactions = read_interactions(path, ReadOptions())
    assert triples(interactions) == [(user, item, None) for user, item in rows]
    assert list(interactions.user_ids) == sorted({user for user, _ in rows})


# Times


@pytest.mark.parametrize(
    ("texts", "order", "kind"),
    [
        (["3", "1", "2"], [1, 2, 0], np.int64),
        ([" 3", "-1 ", "20"], [1, 0, 2], np.int64),
        (["3.5", "1e9", "2"], [2, 0, 1], np.float64),
        (["2024-03-01", "2024-01-31", "2024-02-01"], [1, 2, 0], np.int64),
        (["2024-03-01 10:00:00", "2024-03-01T09:59:59.5", "2024-03-01"], [2, 1, 0], np.int64),
        (["2024-03-01T10:00:00+05:00", "2024-03-01T09:00:00Z", "1969-01-01"], [2, 0, 1], np.int64),
        (["2024-01-01T00:00:00.000000002", "2024-01-01T00:00:00.000000001", "2024-01-01"],
         [2, 1, 0], np.int64),
    ],
)  # fmt: skip
def test_times_sort_in_every_form(
    tmp_path: Path, texts: list[str], order: list[int], kind: type
) -> None:
    path = write(tmp_path, "user,item,date\n" + "".join(f"a,b,{text}\n" for text in texts))
    times = read_interactions(path, ReadOptions()).times
    assert times is not None
    assert times.dtype == kind
    assert np.argsort(times).tolist() == order


@pytest.mark.parametrize(
    "times",
    [
        pa.array([1.5, -2.0]),
        pa.array([Decimal("1.5"), Decimal("-2")]),
        pa.array([2, 1], pa.uint8()),
        pa.array(["2024-02-01", "2024-01-01"]).dictionary_encode(),
        pa.array([" 2024-02-01", "2024-01-01"], pa.string_view()),
        pa.array([datetime.date(2024, 2, 1), datetime.date(2024, 1, 1)]),
        pa.array([datetime.date(2024, 2, 1), datetime.date(2024, 1, 1)], pa.date64()),
        pa.array([2, 1], pa.timestamp("ns", tz="Europe/Berlin")),
        pa.array([2, 1], pa.timestamp("s")),
    ],
)
def test_times_of_parquet_types(tmp_path: Path, times: pa.Array) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"user": ["a", "a"], "item": ["x", "y"], "time": times}), path)
    read_times = read_interactions(path, ReadOptions()).times
    assert read_times is not None
    assert read_times.dtype in (np.int64, np.float64)
    assert read_times[1] < read_times[0]


@pytest.mark.parametrize(
    ("texts", "line", "found", "count"),
    [
        (["5", "soon", "7", "later"], 3, "'soon'", 2),
        (["5", "6", "", "7"], 4, "no time", 1),
        (["5", "6", "inf", "7"], 4, "'inf'", 1),
        (["5.5", "6", "nan", "7"], 4, "no time", 1),
        (["2024-01-01", "2024-01-01 10:00", "2024-13-01", "2024-01-02"], 4, "'2024-13-01'", 1),
        (["2024-01-01", "20.1.2024", "2024-01-01", "2024-01-02"], 3, "'20.1.2024'", 1),
        (["12", "2024-01-01", "13", "14"], 3, "'2024-01-01'", 1),
    ],
)
def test_bad_time_names_its_line(
    tmp_path: Path, texts: list[str], line: int, found: str, count: int
) -> None:
    path = write(tmp_path, "user,item,date\n" + "".join(f"a,b,{text}\n" for text in texts))
    message = refusal(path)
    assert f"line {line}: column date has {found}" in message
    assert f"({count} such rows)" in message


def test_line_numbers_count_blank_lines_and_line_breaks_in_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, '\nuser,item,title,time\n\n1,2,"two\nlines",5\n\n1,2,x,soon\n')
    assert "line 7: column time has 'soon'" in refusal(path)


def test_bad_times_of_parquet_name_the_row(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    ids = {"user": ["a", "a"], "item": ["x", "y"]}
    pq.write_table(pa.table({**ids, "time": pa.array([1, None])}), path)
    assert "row 2: column time has no time" in refusal(path)
    pq.write_table(pa.table({**ids, "time": pa.array([float("inf"), 1.0])}), path)
    assert "row 1: column time has inf" in refusal(path)
    pq.write_table(pa.table({**ids, "time": pa.array([True, False])}), path)
    message = refusal(path)
    assert "column time is of type bool, which is not a time" in message
    assert "--time-column" in message


# Missing ids


@pytest.mark.parametrize("missing", ["", '""', "NaN", "nan", "NULL", "null", "NA", "None", "<NA>"])
@pytest.mark.parametrize("role", ["user", "item"])
def test_missing_id_of_a_table_names_line_and_count(
    tmp_path: Path, missing: str, role: str
) -> None:
    row = f"{missing},9" if role == "user" else f"a,{missing}"
    path = write(tmp_path, f"user,item\na,5\n{row}\nb,5\n{row}\n")
    message = refusal(path)
    assert f"line 3: the {role} is empty or NaN (2 such rows)" in message


@pytest.mark.parametrize(
    "items",
    [
        pa.array([1, None, 2]),
        pa.array([1.0, float("nan"), 2.0]),
        pa.array(["1", None, "2"]),
        pa.array(["1", "", "2"]),
        pa.array(["1", "nan", "2"]),
        pa.array(["1", None, "2"]).dictionary_encode(),
        pa.nulls(3, pa.decimal128(5)),
    ],
)
def test_missing_id_of_parquet_names_the_row(tmp_path: Path, items: pa.Array) -> None:
    pq.write_table(pa.table({"user": ["a", "b", "c"], "item": items}), tmp_path / "x.parquet")
    row = 1 if items.null_count == 3 else 2
    assert f"row {row}: the item is empty or NaN" in refusal(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([True, False]), "of type bool, and ids are text or whole numbers"),
        (pa.array([[1], [2, 3]]), "of type list"),
        (pa.array([{"a": 1}, {"a": 2}]), "of type struct"),
        (pa.array([1, 2], pa.timestamp("s")), "of type timestamp"),
        (pa.array([1.0, 2.5]), "row 2: column item has 2.5, where an id is text"),
        (pa.array([1.0, 2.0**60]), "row 2: column item has"),
        (pa.array([1.0, float("inf")]), "row 2: column item has inf"),
        (pa.array([Decimal("1.0"), Decimal("2.5")]), "row 2: column item has 2.5"),
    ],
)
def test_parquet_column_that_cannot_be_ids(tmp_path: Path, values: pa.Array, message: str) -> None:
    pq.write_table(pa.table({"user": ["a", "b"], "item": values}), tmp_path / "x.parquet")
    assert message in refusal(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        ("5,6,7\n1,2,,3\n5,1\n", 2, "comma"),
        ("5,6,7\n5,1\n,1,2,3\n", 3, "comma"),
        ("5,6,7\n1,2,3,\n5,1\n", 2, "comma"),
        ("5,6,7\n1, ,3\n5,1\n", 2, "comma"),
        ('5,6,7\n1,"",3\n5,1\n', 2, "comma"),
        ("5 6 7\n1 2  3\n5 1\n", 2, "space"),
        ("5 6 7\n 1 2 3\n5 1\n", 2, "space"),
        ("5 6\n1  2\n5 1\n", 2, "space"),
        ("5\t6\t7\n1\t\t2\t3\n5\t1\n", 2, "tab"),
        ("5;6;7\n1;2;\n5;1\n", 2, "semicolon"),
        ("5::6::7\n1::2::::\n5::1\n", 2, "::"),
    ],
)
def test_stray_separator_names_its_line(tmp_path: Path, text: str, line: int, name: str) -> None:
    message = refusal(write(tmp_path, text))
    assert f"line {line}: a stray {name}" in message


def test_nan_in_a_sequence_names_its_line(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "5 6 7\n1 nan 3\n5 NaN\n"))
    assert "line 2: nan is not an id (2 such in the file)" in message


def test_pairs_of_another_number_of_tokens_name_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "1 2\n1 3\n1 4 5\n2\n")
    assert "line 3: 3 tokens" in refusal(path, layout=Layout("pairs", " "))
    path = write(tmp_path, "1 2\n2\n")
    assert "line 2: 1 tokens" in refusal(path, layout=Layout("pairs", " "))


# Broken files


@pytest.mark.parametrize("text", ["user,item\n", "user,item", "\n\nuser,item\r\n\n"])
def test_header_only(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text, "x.csv")
    assert "has a header and no interactions" in refusal(path)
    assert "has a header and no interactions" in refusal(path, allow_empty=True)


def test_parquet_without_rows(tmp_path: Path) -> None:
    pd.DataFrame({"user": ["a"], "item": ["b"]}).head(0).to_parquet(tmp_path / "x.parquet")
    assert "no interactions" in refusal(tmp_path / "x.parquet")


def test_users_without_items_alone_are_no_training_data(tmp_path: Path) -> None:
    path = write(tmp_path, "a\nb\n")
    assert "has no interactions" in refusal(path, layout=Layout("user-sequences", " "))


def test_row_with_another_number_of_fields_names_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, 'user,item,title\n1,2,"a\nb"\n1,3,x\n1,4,x,y\n')
    message = refusal(path)
    assert "line 5: the number of fields is 4, where the first line has 3" in message


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress, lzma.compress])
def test_compressed_files_are_told_apart_from_damaged_ones(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    packed = write(tmp_path, pack(b"user,item\na,1\na,2\n"))
    assert "is compressed: unpack it" in refusal(packed)


def test_bytes_that_are_no_text_far_down(tmp_path: Path) -> None:
    rows = b"a,b\n" * 400_000
    table = write(tmp_path, b"user,item\n" + rows + b"\xff,b\n")
    assert "is not a text file in UTF-8 (byte 0xff in line 400002)" in refusal(table)
    assert "a NUL byte" in refusal(write(tmp_path, b"user,item\n" + rows + b"\0,b\n"))
    pairs = rows.replace(b",", b" ").replace(b"b", b"7")
    assert "is not a text file" in refusal(write(tmp_path, pairs + b"\0 7\n"))


def test_unclosed_quote_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, 'user,item\n1,"2\n3,4\n5,6\n')
    assert "is a double quote not closed" in refusal(path)
    sequence = write(tmp_path, '1,2,3\n1,"5,6\n')
    assert "line 2: a double quote is not closed" in refusal(sequence)


def test_damaged_parquet_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"user": range(9999), "item": range(9999)}).to_parquet(path)
    data = bytearray(path.read_bytes())
    data[4:2000] = b"\xff" * 1996
    path.write_bytes(data)
    assert "cannot be read as Parquet" in refusal(path)
    path.write_bytes(data[:3000])
    assert "is not a Parquet file" in refusal(path)


# A layout that is given, and users without items


def test_given_layout_is_used_and_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path, "1 2 3\n2 4 5 6\n")
    assert read(path)[0] == ("1", "2", None)
    sequences = read_interactions(path, ReadOptions(), layout=Layout("sequences", " "))
    assert triples(sequences)[0] == ("1", "1", None)
    stored = Layout(**json.loads(json.dumps(asdict(sequences.layout))))
    assert triples(read_interactions(path, ReadOptions(), layout=stored)) == triples(sequences)


def test_given_columns_are_found_in_another_kind_of_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({"who": ["a", "b"], "what": ["x", "y"], "timestamp": [2, 1]})
    frame.to_parquet(tmp_path / "x.parquet")
    options = ReadOptions(user_column="who", item_column="what")
    stored = read_interactions(tmp_path / "x.parquet", options).layout
    for name, separator in (("x.csv", ","), ("x.tsv", "\t")):
        frame[["timestamp", "what", "who"]].to_csv(tmp_path / name, sep=separator, index=False)
        again = read_interactions(tmp_path / name, ReadOptions(), layout=stored)
        assert triples(again) == [("a", "x", 2.0), ("b", "y", 1.0)]


def test_given_layout_without_time_takes_no_time(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,time\na,b,soon\n")
    layout = Layout.csv("user", "item")
    assert triples(read_interactions(path, ReadOptions(), layout=layout)) == [("a", "b", None)]


def test_column_of_the_given_layout_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item\na,b\n")
    message = refusal(path, layout=Layout.csv("user", "item", "when"))
    assert "no column when; its columns: user, item" in message
    assert "no column visitor" in refusal(path, layout=Layout.csv("visitor", "item"))


@pytest.mark.parametrize(
    ("text", "layout", "users", "items"),
    [
        ("9 8\n\n9\n\n", Layout("sequences", " "), ["1", "2", "3", "4"], ["9", "8", "9"]),
        ("\n", Layout("sequences", ","), ["1"], []),
        ("b 9 8\n\na\nc 9\n", Layout("user-sequences", " "), ["b", "a", "c"], ["9", "8", "9"]),
        ("b,9\na\n\nb,8\n", Layout("pairs", ","), ["b", "a"], ["9", "8"]),
        ("user,item,time\nb,9,1\na,,\nb,8,2\n", Layout.csv("user", "item", "time"),
         ["b", "a"], ["9", "8"]),
        ("user,item\na,\n", Layout.csv("user", "item"), ["a"], []),
    ],
)  # fmt: skip
def test_users_without_items_are_kept_where_they_are_allowed(
    tmp_path: Path, text: str, layout: Layout, users: list[str], items: list[str]
) -> None:
    path = write(tmp_path, text)
    kept = read_interactions(path, ReadOptions(), layout=layout, allow_empty=True)
    assert kept.users_as_named is not None
    assert list(kept.user_ids[kept.users_as_named]) == users
    assert list(kept.user_ids) == sorted(users)
    assert [item for _, item, _ in triples(kept)] == items


def test_parquet_row_without_item_is_a_user_without_items(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [2, 1], "item": [None, 7.0]})
    frame.to_parquet(tmp_path / "x.parquet")
    kept = read_interactions(tmp_path / "x.parquet", ReadOptions(), allow_empty=True)
    assert list(kept.user_ids) == ["1", "2"]
    assert triples(kept) == [("1", "7", None)]


def test_lines_without_items_are_skipped_in_training_data(tmp_path: Path) -> None:
    assert read(write(tmp_path, "b 9 8\n\na\nc 9\n")) == [
        ("b", "9", None), ("b", "8", None), ("c", "9", None)
    ]  # fmt: skip
    interactions = read_interactions(write(tmp_path, "b 9 8\na\nc 9\n"), ReadOptions())
    assert list(interactions.user_ids) == ["b", "c"]


def test_row_without_user_is_refused_even_where_items_may_be_missing(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item\n,9\n")
    assert "line 2: the user is empty" in refusal(path, allow_empty=True)


def test_missing_file_is_told_with_a_given_layout_too(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "x.txt", layout=Layout("sequences", " "))
    assert "does not exist" in refusal(tmp_path / "x.csv", layout=Layout.csv("user", "item"))


# Published data sets


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "kind", "users", "items", "interactions", "median", "longest"),
    [
        ("ml-1m-prefix.txt", "sequences", 6_040, 3_416, 987_019, 93, 2_275),
        ("beauty.txt", "user-sequences", 22_363, 12_101, 198_502, 6, 204),
        ("sports.txt", "user-sequences", 35_598, 18_357, 296_337, 6, 296),
        ("video-games.txt", "pairs", 31_013, 23_715, 287_107, 6, 860),
        ("ml-100k.inter", "table", 943, 1_682, 100_000, 65, 737),
    ],
)
def test_published_data_sets_are_read_without_options(
    real_data: Path,
    name: str,
    kind: str,
    users: int,
    items: int,
    interactions: int,
    median: int,
    longest: int,
) -> None:
    data = read_interactions(real_data / name, ReadOptions())
    assert data.layout.kind == kind
    assert (len(data.user_ids), len(data.item_ids), len(data)) == (users, items, interactions)
    lengths = np.bincount(data.users)
    assert (int(np.median(lengths)), lengths.max()) == (median, longest)
    assert (data.times is not None) == (kind == "table")


Reader = Callable[[Path], list[tuple[str, str]]]


def _plain_sequences(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text().splitlines()
    return [(str(n), item) for n, line in enumerate(lines, 1) for item in line.split()]


def _plain_user_sequences(path: Path) -> list[tuple[str, str]]:
    lines = [line.split() for line in path.read_text().splitlines()]
    return [(line[0], item) for line in lines for item in line[1:]]


def _plain_inter(path: Path) -> list[tuple[str, str]]:
    lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return [(line[0], line[1]) for line in lines]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("ml-1m-prefix.txt", _plain_sequences),
        ("beauty.txt", _plain_user_sequences),
        ("video-games.txt", _plain_user_sequences),
        ("ml-100k.inter", _plain_inter),
    ],
)
def test_published_data_sets_are_read_as_a_plain_loop_does(
    real_data: Path, name: str, plain: Reader
) -> None:
    path = real_data / name
    assert [(user, item) for user, item, _ in read(path)] == plain(path)
