"""Which layout a file is taken for, and what is said about it."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from peercollab.data.columns import ITEM_WORDS, TIME_WORDS, USER_WORDS, choose, guess
from peercollab.data.layout import Layout, ReadOptions, recognise
from peercollab.errors import PeercollabError


def file_of(folder: Path, text: str, name: str = "data.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def recognised(folder: Path, text: str, name: str = "data.txt") -> Layout:
    return recognise(file_of(folder, text, name), ReadOptions())


def refusal(path: Path, options: ReadOptions | None = None) -> str:
    with pytest.raises(PeercollabError) as caught:
        recognise(path, options or ReadOptions())
    message = str(caught.value)
    assert str(path) in message or "--layout" in message
    assert len(message.splitlines()) <= 2
    return message


@pytest.mark.parametrize(
    ("text", "kind", "separator"),
    [
        ("1 2 3\n1 5 6 7\n", "sequences", " "),
        ("1 2 3\n2 5 6 7\n", "user-sequences", " "),
        ("1,2,3\n1,5,6,7\n", "sequences", ","),
        ("a\t2\t3\nb\t5\n", "user-sequences", "\t"),
        ("1 2\n1 3\n2 2\n", "pairs", " "),
        ("1,2\n1,3\n", "pairs", ","),
        ("1::2\n1::3\n", "pairs", "::"),
        ("1, 2, 3\n1, 5\n", "sequences", ","),
        ("4\n5\n6 7 8\n4 5\n", "sequences", " "),
        ("4\n5\n6\n", "sequences", " "),
        ("1 2 3\n\n1 5 6 7\n\n", "sequences", " "),
        ("1 2\n\n1 3\n", "pairs", " "),
        ("1 2 3\n1 5 6\n", "sequences", " "),
    ],
)
def test_text_without_columns_is_told_apart_by_its_tokens(
    tmp_path: Path, text: str, kind: str, separator: str
) -> None:
    layout = recognised(tmp_path, text)
    assert (layout.kind, layout.separator) == (kind, separator)


def test_seed_format_is_sequences_although_the_ending_is_csv(tmp_path: Path) -> None:
    text = "2,29,32,47\n3,1,24\n2,6,10,11,17\n"
    assert recognised(tmp_path, text, "ml20m_removecold5_seq.csv") == Layout(
        "sequences", ",", guessed=True
    )


def test_one_line_far_down_decides(tmp_path: Path) -> None:
    pairs = "1 22\n" * 400_000
    assert recognised(tmp_path, pairs).kind == "pairs"
    assert recognised(tmp_path, pairs + "1 2 3\n").kind == "sequences"
    different = "".join(f"{user} 1 2 {user}\n" for user in range(150_000))
    assert recognised(tmp_path, different + "150000 7\n").kind == "user-sequences"
    assert recognised(tmp_path, different + "17 7\n").kind == "sequences"


@pytest.mark.parametrize(
    ("header", "user", "item", "time"),
    [
        ("user item", "user", "item", None),
        ("user,item", "user", "item", None),
        ("userId,movieId,rating,timestamp", "userId", "movieId", "timestamp"),
        ("timestamp,visitorid,event,itemid,transactionid", "visitorid", "itemid", "timestamp"),
        ("SESSION_ID;product_id;ts", "SESSION_ID", "product_id", "ts"),
        ("reviewerID\tasin\toverall\tunixReviewTime", "reviewerID", "asin", "unixReviewTime"),
        ("session_id,user_id,item_id,Date", "user_id", "item_id", "Date"),
        ("uid iid time", "uid", "iid", "time"),
        ("user_id:token\titem_id:token\ttimestamp:float",
         "user_id:token", "item_id:token", "timestamp:float"),
        ('"User-ID";"ISBN";"Book-Rating"', "User-ID", "ISBN", None),
    ],
)  # fmt: skip
def test_columns_are_guessed_from_their_names(
    tmp_path: Path, header: str, user: str, item: str, time: str | None
) -> None:
    row = re.sub(r"[^,; \t]+", "1", header)
    layout = recognised(tmp_path, f"{header}\n{row}\n")
    assert layout.kind == "table"
    assert layout.header
    assert (layout.user_column, layout.item_column, layout.time_column) == (user, item, time)
    for column in (user, item, time or "time order"):
        assert column in layout.describe()


def test_no_column_is_guessed_from_a_part_of_its_name() -> None:
    names = ["username_hash", "item_category", "timeframe", "product_count"]
    assert [guess(names, words) for words in (USER_WORDS, ITEM_WORDS, TIME_WORDS)] == [None] * 3


def test_inter_is_a_table_with_typed_header(tmp_path: Path) -> None:
    layout = recognised(tmp_path, "session_id:token\titem_id:token\n1\t2\n", "x.inter")
    assert (layout.separator, layout.user_column) == ("\t", "session_id:token")
    chosen = recognise(
        tmp_path / "x.inter", ReadOptions(user_column="session_id", item_column="item_id:token")
    )
    assert chosen.user_column == "session_id:token"


def test_movielens_dat_has_its_columns_by_number(tmp_path: Path) -> None:
    layout = recognised(tmp_path, "1::1193::5::978300760\n1::661::3::978302109\n", "ratings.dat")
    assert layout == Layout("table", "::", "text", False, "1", "2", "4", guessed=True)


def test_parquet_is_recognised_by_ending_or_content(tmp_path: Path) -> None:
    frame = pd.DataFrame({"when": [1], "customer": ["a"], "sku": ["b"]})
    for name in ("x.parquet", "x.data"):
        frame.to_parquet(tmp_path / name)
        layout = recognise(tmp_path / name, ReadOptions(time_column="when"))
        assert layout.file_format == "parquet"
        assert layout.describe() == (
            "Parquet table: user = customer, item = sku, time = when; "
            "guessed: --user-column, --item-column and --time-column override"
        )


def test_column_options_make_any_first_line_a_header(tmp_path: Path) -> None:
    path = file_of(tmp_path, "who,what,noise\nann,tea,1\n")
    layout = recognise(path, ReadOptions(user_column="who", item_column="what"))
    assert layout.header
    assert (layout.user_column, layout.item_column) == ("who", "what")


def test_numbers_name_columns_with_and_without_header(tmp_path: Path) -> None:
    options = ReadOptions(user_column="2", item_column="1", time_column="4")
    bare = recognise(file_of(tmp_path, "5,1,3.0,881250949\n6,1,2.0,881250950\n"), options)
    assert bare == Layout("table", ",", "text", False, "2", "1", "4")
    named = recognise(file_of(tmp_path, "what,who,rating,t\n5,1,3.0,881250949\n"), options)
    assert named == Layout("table", ",", "text", True, "who", "what", "t")


@pytest.mark.parametrize("kind", ["sequences", "user-sequences", "pairs"])
def test_layout_option_overrides_the_guess(tmp_path: Path, kind: str) -> None:
    path = file_of(tmp_path, "1,2,3\n4,5\n")
    layout = recognise(path, ReadOptions(layout=kind))  # type: ignore[arg-type]
    assert layout == Layout(kind, ",")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (
            Layout("user-sequences", " ", guessed=True),
            "one user a line, first token is the user, separated by spaces; "
            "if the first token is an item: --layout sequences",
        ),
        (Layout("user-sequences", ","), "one user a line, first token is the user, separated by "
         "commas"),
        (Layout("sequences", ","), "one user a line, no user id, separated by commas"),
        (Layout("pairs", "\t"), "one user and item a line, in time order, separated by tabs"),
        (
            Layout.csv("u", "i"),
            "table separated by commas: user = u, item = i, no time column, so rows are taken to "
            "be in time order",
        ),
        (Layout("table", "::", "text", False, "1", "2", "4"),
         "table separated by '::', columns by number: user = 1, item = 2, time = 4"),
    ],
)  # fmt: skip
def test_layout_is_told_in_words_and_survives_json(layout: Layout, words: str) -> None:
    assert layout.describe() == words
    assert Layout(**json.loads(json.dumps(asdict(layout)))) == layout


def test_table_without_header_lists_what_the_first_line_has(tmp_path: Path) -> None:
    path = file_of(tmp_path, "1,5,3.0,881250949\n1,6,2.0,881250950\n", "ratings.csv")
    for options in (ReadOptions(), ReadOptions(layout="table")):
        message = refusal(path, options)
        assert "1, 5, 3.0, 881250949" in message
        assert "--user-column" in message
        assert "--item-column" in message
        assert "--layout" in message
    tabs = file_of(tmp_path, "196\t242\t3\t881250949\n186\t302\t3\t891717742\n", "u.data")
    assert "196, 242, 3, 881250949" in refusal(tabs)


def test_unknown_header_lists_its_names(tmp_path: Path) -> None:
    for separator in (",", "\t", " "):
        path = file_of(tmp_path, f"who{separator}what\n1{separator}5\n")
        assert "the first line has: who, what" in refusal(path)


def test_table_without_a_user_or_item_column_lists_its_columns(tmp_path: Path) -> None:
    no_user = file_of(tmp_path, "item,rating\n1,2\n")
    assert "no column that is recognised as the user; its columns: item, rating" in refusal(no_user)
    assert "--user-column" in refusal(no_user)
    no_item = file_of(tmp_path, "user,rating\n1,2\n")
    assert "recognised as the item; its columns: user, rating" in refusal(no_item)
    frame = tmp_path / "x.parquet"
    pd.DataFrame({"a": [1], "b": [2]}).to_parquet(frame)
    assert "its columns: a, b" in refusal(frame)


def test_unknown_column_suggests_the_nearest(tmp_path: Path) -> None:
    path = file_of(tmp_path, "user,item,time\n1,2,3\n")
    message = refusal(path, ReadOptions(time_column="tmie"))
    assert "no column tmie (did you mean time?); its columns: user, item, time" in message
    assert "no column 5; its columns: 1, 2, 3" in refusal(
        file_of(tmp_path, "1,2,3\n"), ReadOptions(user_column="1", item_column="5")
    )


def test_one_column_cannot_be_both_user_and_item() -> None:
    with pytest.raises(PeercollabError, match="column a is taken for both user and item"):
        choose(Path("x.csv"), ["a", "b"], "a", "a", None)


def test_a_column_whose_name_is_there_twice_is_not_taken() -> None:
    names = ["id", "user", "id", "item"]
    assert choose(Path("x.csv"), names, None, None, None) == ("user", "item", None)
    for columns in (("user", "id", None), ("id", "item", None), ("user", "item", "id")):
        with pytest.raises(PeercollabError, match="has 2 columns named id: give all but one"):
            choose(Path("x.csv"), names, *columns)


def test_many_columns_are_listed_in_part(tmp_path: Path) -> None:
    names = ",".join(f"column{i}" for i in range(100))
    assert "column19 and 80 more" in refusal(file_of(tmp_path, f"{names}\n{names}\n"))


@pytest.mark.parametrize(
    "options",
    [
        ReadOptions("pairs", user_column="x"),
        ReadOptions("pairs", item_column="x"),
        ReadOptions("pairs", time_column="x"),
    ],
)
def test_column_options_need_a_table(tmp_path: Path, options: ReadOptions) -> None:
    path = file_of(tmp_path, "1 2 3\n1 2\n")
    assert "--layout pairs has no columns" in refusal(path, options)


def test_parquet_is_only_a_table(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"user": [1], "item": [2]}).to_parquet(path)
    assert "leave --layout pairs out" in refusal(path, ReadOptions(layout="pairs"))


def test_paths_that_are_no_data_file_are_refused(tmp_path: Path) -> None:
    file_of(tmp_path, "user,item\n", "ratings.csv")
    assert f"did you mean {tmp_path / 'ratings.csv'}?" in refusal(tmp_path / "rating.csv")
    assert "does not exist: check the name" in refusal(tmp_path / "nowhere" / "x.csv")
    assert "is a folder" in refusal(tmp_path)
    assert "is empty" in refusal(file_of(tmp_path, ""))
    assert "only blank lines" in refusal(file_of(tmp_path, "\n \n\n"))


def test_json_is_not_taken_for_a_table(tmp_path: Path) -> None:
    text = '{"user_id": "a", "item_id": "b"}\n{"user_id": "a", "item_id": "c"}\n'
    assert "looks like JSON" in refusal(file_of(tmp_path, text))


def test_one_endless_token_is_a_sequence(tmp_path: Path) -> None:
    assert recognised(tmp_path, "a" * 300_000 + ",b\n" + "c\n").kind == "user-sequences"


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    assert "is not a text file" in refusal(path)
    path.write_bytes("user,item\n1,2\n3,é\n".encode("latin-1"))
    message = refusal(path)
    assert "is not a text file in UTF-8 (byte 0xe9 in line 3)" in message
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"PAR1 and then nothing of the kind")
    assert "is not a Parquet file" in refusal(broken)
