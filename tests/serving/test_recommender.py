"""Recommendations in the user's own ids, from a run folder on disk."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from peercollab.cli import main
from peercollab.errors import PeercollabError
from peercollab.serving.recommender import Recommender

pytestmark = pytest.mark.usefixtures("undrawn")

# Ids that break what is careless with them.
ODD_ITEMS = [
    "rock/pop",
    "../escape",
    "café crème",
    "a,b",
    'the "best"',
    "007",
    "7",
    " spaced ",
    "日本",
    "item;9",
]
CSV_HEADER = ["user", "item", "time"]

# Beside other tests a second thread is waited for more than it helps.
ALONE = "--executor local --peers 1 --threads-per-peer 1"


def write_table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([CSV_HEADER, *rows])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on users who go round the odd items in their order."""
    folder = tmp_path_factory.mktemp("odd")
    rows = [
        [f'user "{user}", north/south', ODD_ITEMS[(user + step) % 10], str(1000 + step)]
        for user in range(40)
        for step in range(7)
    ]
    write_table(folder / "log.csv", rows)
    out = folder / "run"
    options = f"{ALONE} --epochs 40 --patience 0 --lr 0.01 --hidden-size 16"
    command = ["train", "--data", str(folder / "log.csv"), "--out", str(out), *options.split()]
    assert main(command) == 0
    return out


def test_the_next_items_of_a_round_come_in_own_ids(run: Path) -> None:
    table = Recommender.load(run).recommend({"newcomer": ODD_ITEMS[2:5]}, k=3)
    assert list(table.columns) == ["user", "item", "rank", "score", "source"]
    assert table["user"].tolist() == ["newcomer"] * 3
    assert table["item"].iloc[0] == ODD_ITEMS[5]
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["score"].is_monotonic_decreasing
    assert set(table["source"]) == {"model"}


def test_seen_items_are_left_out_unless_kept(run: Path) -> None:
    recommender = Recommender.load(run)
    seen = ODD_ITEMS[:6]
    table = recommender.recommend({"u": seen}, k=10)
    assert set(table["item"]) == set(ODD_ITEMS) - set(seen)
    kept = recommender.recommend({"u": seen}, k=10, keep_seen=True)
    assert set(kept["item"]) == set(ODD_ITEMS)


def test_unknown_items_are_skipped_with_a_warning(run: Path) -> None:
    recommender = Recommender.load(run)
    with pytest.warns(UserWarning, match=r"unknown to the model .*\(1 in all\).* 'nowhere'"):
        table = recommender.recommend({"u": ["nowhere", *ODD_ITEMS[2:5]]}, k=3)
    pd.testing.assert_frame_equal(table, recommender.recommend({"u": ODD_ITEMS[2:5]}, k=3))


def test_users_nothing_is_known_of_get_the_popular_items(run: Path) -> None:
    recommender = Recommender.load(run)
    table = recommender.recommend({"empty": [], "known": ODD_ITEMS[:3]}, k=2)
    assert table["user"].tolist() == ["empty", "empty", "known", "known"]
    assert table["source"].tolist() == ["popularity"] * 2 + ["model"] * 2
    counts = pd.read_parquet(run / "best" / "items.parquet").set_index("item")["interactions"]
    popular = table[table["user"] == "empty"]
    assert popular["score"].tolist() == sorted(counts, reverse=True)[:2]
    assert [counts[item] for item in popular["item"]] == popular["score"].tolist()


def test_a_user_alone_gets_the_same_as_in_company(run: Path) -> None:
    recommender = Recommender.load(run)
    generator = np.random.default_rng(0)
    histories = {
        f"u{user}": [ODD_ITEMS[i] for i in generator.permutation(10)[: 1 + user % 5]]
        for user in range(300)
    }
    together = recommender.recommend(histories, k=4)
    for user in ("u0", "u7", "u299"):
        alone = recommender.recommend({user: histories[user]}, k=4)
        of_user = together[together["user"] == user]
        assert of_user["item"].tolist() == alone["item"].tolist()


def test_the_order_of_users_is_kept(run: Path) -> None:
    table = Recommender.load(run).recommend({"z": ODD_ITEMS[:2], "a": [], "m": ODD_ITEMS[3:4]}, k=1)
    assert table["user"].tolist() == ["z", "a", "m"]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_command_prints_csv_that_reads_back(
    run: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    histories = tmp_path / "histories.csv"
    rows = [['né, "x"/y', item, str(place)] for place, item in enumerate(ODD_ITEMS[2:5])]
    write_table(histories, [*rows, ["empty", "", "1"], ["other", "never seen", "1"]])
    assert main(["recommend", str(run), "--histories", str(histories), "--k", "3"]) == 0
    captured = capsysbinary.readouterr()
    printed = read_csv(captured.out.decode())
    assert [row["user"] for row in printed] == ['né, "x"/y'] * 3 + ["empty"] * 3 + ["other"] * 3
    assert printed[0]["item"] == ODD_ITEMS[5]
    assert [row["source"] for row in printed] == ["model"] * 3 + ["popularity"] * 6
    assert b"skipped (1 in all): never seen" in captured.err
    assert b"never seen" in captured.err


def test_a_model_of_users_says_whom_it_does_not_know(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = run.parent / "log.csv"
    out = tmp_path / "bpr"
    options = f"{ALONE} --model bpr-mf --epochs 1 --hidden-size 8 --rule none"
    assert main(["train", "--data", str(log), "--out", str(out), *options.split()]) == 0
    histories = tmp_path / "histories.csv"
    known = 'user "7", north/south'
    rows = [[user, ODD_ITEMS[3], "1"] for user in (known, "stranger", "other")]
    write_table(histories, rows)
    capsys.readouterr()
    assert main(["recommend", str(out), "--histories", str(histories), "--k", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "peercollab: users that the model was not trained on get a vector made of the items in "
        "their history, without its order (2 in all): stranger, other\n"
    )
    sources = {row["user"]: row["source"] for row in read_csv(captured.out)}
    assert sources == {known: "model", "stranger": "fold-in", "other": "fold-in"}


@pytest.mark.parametrize("keep_seen", [False, True])
@pytest.mark.parametrize(
    ("format_", "read"),
    [
        ("csv", lambda path: pd.read_csv(path, dtype={"item": str})),
        ("parquet", pd.read_parquet),
        ("jsonl", lambda path: pd.read_json(path, lines=True, dtype={"item": str})),
    ],
)
def test_every_format_holds_the_same(
    format_: str, read: Callable[[Path], pd.DataFrame], keep_seen: bool, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answer"
    log = run.parent / "log.csv"
    command = ["recommend", str(run), "--histories", str(log), "--k", "2", "--format", format_]
    seen = ["--keep-seen"] if keep_seen else []
    assert main([*command, *seen, "--out", str(out)]) == 0
    histories = {
        str(user): of["item"].tolist()
        for user, of in pd.read_csv(log, dtype=str).groupby("user", sort=False)
    }
    expected = Recommender.load(run).recommend(histories, k=2, keep_seen=keep_seen)
    assert len(expected) == 80
    # Six digits are written of a score.
    pd.testing.assert_frame_equal(read(out), expected, check_dtype=False, rtol=1e-5)


@pytest.mark.parametrize("format_", ["csv", "parquet", "jsonl"])
def test_a_file_is_written_whole_or_not_at_all(
    format_: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = str(run.parent / "log.csv")
    command = ["recommend", str(run), "--histories", log, "--format", format_, "--out"]
    assert main([*command, str(tmp_path / "missing" / "x")]) == 2
    assert "cannot be written: " in (said := capsys.readouterr().err)
    assert "None" not in said
    out = tmp_path / "answer"
    out.write_text("of before")

    def stop(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    assert main([*command, str(out)]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["answer"]
    assert out.read_text() == "of before"


def test_a_pipe_is_written_to_as_it_is(run: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = str(run.parent / "log.csv")
    try:
        told = ["recommend", str(run), "--histories", log, "--k", "1", "--out", str(pipe)]
        assert main(told) == 0
        assert os.read(reader, 1 << 16).startswith(b"user,item,rank,score,source\n")
    finally:
        os.close(reader)


def test_a_run_of_another_version_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    log = str(run.parent / "log.csv")
    for damage in ({**config, "layout": {"shape": "new"}}, {"data": "demo"}):
        (copy / "config.json").write_text(json.dumps(damage))
        assert main(["recommend", str(copy), "--histories", log]) == 2
        assert "is of another version of peercollab, or damaged" in capsys.readouterr().err


def test_bad_requests_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(run.parent / "log.csv")
    for command, expected in [
        ([str(run), "--histories", log, "--k", "0"], "--k is 0"),
        ([str(run), "--histories", log, "--format", "jsonl"], "--out"),
        ([str(run), "--histories", str(tmp_path / "none.csv")], "none.csv"),
        ([str(tmp_path), "--histories", log], "not the folder of a run"),
    ]:
        assert main(["recommend", *command]) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert len(said.strip().splitlines()) <= 2


def test_damaged_files_are_named(run: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.json", "items.parquet"):
        copy = tmp_path / name
        shutil.copytree(run, copy)
        whole = (copy / "best" / name).read_bytes()
        (copy / "best" / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(PeercollabError, match=r"damaged"):
            Recommender.load(copy)
        (copy / "best" / name).unlink()
        with pytest.raises(PeercollabError, match=r"missing"):
            Recommender.load(copy)
