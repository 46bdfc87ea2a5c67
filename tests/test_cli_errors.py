"""Bad input: one or two lines on stderr, exit code 2, no traceback, no run folder."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from peercollab.cli import main

GOOD_LINES = "".join(
    f"u{user} " + " ".join(f"i{(user + step) % 12}" for step in range(8)) + "\n"
    for user in range(12)
)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.txt"
    path.write_text(GOOD_LINES)
    return path


def refuse(
    arguments: Sequence[object], capsys: pytest.CaptureFixture[str], out: Path | None = None
) -> str:
    """Run a command that must be refused; what stderr says."""
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("peercollab: ")
    assert 1 <= len(said.strip().splitlines()) <= 2
    assert "Traceback" not in said
    assert out is None or not out.exists()
    return said


FILES = {
    "empty": (b"", "empty"),
    "header only": (b"user,item,time\n", "header"),
    "one user": (b"user,item\n" + b"".join(b"a,i%d\n" % i for i in range(9)), "user"),
    "binary": (bytes(range(256)) * 40, "text"),
    "no user column": (b"colour,item\nred,i1\nblue,i2\n", "colour"),
    "empty ids": (b"user,item\na,i1\n,i2\nb,i3\n", "line 3"),
    "NaN ids": (b"user,item\na,i1\na,NaN\nb,i3\n", "line 3"),
    "bad timestamp": (b"user,item,timestamp\na,i1,5\na,i2,yesterday\nb,i3,7\n", "line 3"),
    "stray separator": (b"1,2,3,4,5\n1,2,,3\n7,8,9,1,2,3\n", "line 2"),
    "nobody to be ranked": (
        b"user,item\n" + b"".join(b"u%d,a\nu%d,b\n" % (i, i) for i in range(9)),
        "no user has 3 or more interactions (the longest history has 2)",
    ),
    "a column twice": (
        b"id,user_id,id\n" + b"1,2,3\n" * 9,
        "has 2 columns named id: give all but one of them another name",
    ),
    "all users short": (
        b"user,item\n" + b"".join(b"u%d,i%d\n" % (i, i) for i in range(9)),
        "--min-interactions",
    ),
}


OPTIONS_OF = {
    "nobody to be ranked": "--min-interactions 1",
    "a column twice": "--user-column 2 --item-column 3",
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, expected = FILES[name]
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    out = tmp_path / "run"
    options = OPTIONS_OF.get(name, "").split()
    said = refuse(["train", "--data", path, "--out", out, *options], capsys, out)
    assert expected in said


def test_a_missing_file_and_a_folder(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    said = refuse(["train", "--data", tmp_path / "goood.txt", "--out", out], capsys, out)
    assert "goood.txt" in said
    assert "good.txt" in said
    said = refuse(["train", "--data", tmp_path, "--out", out], capsys, out)
    assert "folder" in said


@pytest.mark.parametrize(
    "words", [["--rule", "papa"], ["--config=own.toml"], ["--preset", "pcrec"], ["--swap_x"]]
)
def test_what_an_arm_has_to_say_is_told(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison"
    said = refuse(["compare", "--out", out, *words], capsys, out)
    option = words[0].partition("=")[0]
    known = option != "--swap_x"
    assert (
        f"{option} is for an arm to say, as in --arms solo 'mine={option} ...'" in said
    ) == known


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--peers", "0"], "--peers is 0"),
        (["--percent", "120", "--rule", "parameter-wise"], "--percent is 120"),
        (["--percent", "120"], "--percent"),
        (["--lr", "nan"], "--lr is nan"),
        (["--lr", "0"], "--lr is 0"),
        (["--weight-decay", "-1"], "--weight-decay is -1"),
        (["--dropout", "1.5"], "--dropout is 1.5"),
        (["--max-length", "0"], "--max-length is 0"),
        (["--epochs", "-1"], "--epochs is -1"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--patience", "-2"], "--patience is -2"),
        (["--seed", "-2"], "--seed is -2"),
        (["--heads", "3"], "--heads 3 does not divide --hidden-size 64"),
        (["--steepness", "nan"], "--steepness is nan"),
        (
            ["--steepness", "3", "--rule", "average"],
            "--steepness has no effect with --rule average",
        ),
        (
            ["--tied", "--layers", "final", "--executor", "local"],
            "--layers final names no layer",
        ),
        (
            ["--model", "bpr-mf", "--layers", "final", "--executor", "local"],
            "--layers final names no layer",
        ),
        (["--bins", "1000000000"], "--bins is 1000000000"),
        (["--layers", "final", "--rule", "none"], "--layers has no effect with --rule none"),
        (["--threads-per-peer", "0"], "--threads-per-peer is 0"),
        (["--gpus-per-peer", "0"], "--gpus-per-peer is 0"),
        (["--address", "auto", "--executor", "local"], "--address has no effect"),
        (["--placement", "strict_spread"], "did you mean strict-spread?"),
        (["--placement", "spread", "--executor", "local"], "--placement has no effect"),
        (["--wait-for-resources", "-1"], "--wait-for-resources is -1"),
        (
            ["--wait-for-resources", "5", "--executor", "local"],
            "--wait-for-resources has no effect",
        ),
        (["--min-interactions", "0"], "--min-interactions is 0"),
        (["--epoch", "3"], "did you mean --epochs?"),
        (["--rule", "layer-wide"], "did you mean layer-wise?"),
        (["--rule", "sparat"], "did you mean sparta?"),
        (["--rule", "nowhere.py:mine"], "nowhere.py cannot be read"),
        (["--criterion", "entropie"], "did you mean entropy?"),
        (["--donors", "worst"], "take one of best, mean, random, ring"),
        (["--exchange-every", "often"], "take one of a number, epoch"),
        (["--exchange-every", "0"], "--exchange-every is 0"),
        (["--exchange-from", "0.3", "--exchange-until", "0.2"], "--exchange-from 0.3 is after"),
        (
            # It takes the data to know: without Ray, which would be started by then.
            ["--executor=local", "--epochs=2", "--exchange-from=0.8", "--exchange-until=0.9"],
            "no exchange",
        ),
        (["--percent", "-1", "--rule", "noise"], "--percent is -1"),
        (["--rule", "diloco", "--init", "own"], "leave --init own out"),
        (["--rule", "wash", "--align"], "--align has no effect with --rule wash"),
        (["--dropout-spread", "0.3"], "gives peer 1 -0.1"),
        (["--augment-share", "0.3"], "--augment-share has no effect"),
        (["--ema", "1"], "--ema is 1"),
        (["--swa", "1"], "--swa is 1"),
        (["--swa", "3", "--ema", "0.9"], "leave one of them out"),
        (["--layers", "embeding"], "did you mean embedding?"),
        (["--epochs", "many"], "--epochs"),
        (["--epochs"], "--epochs"),
        (["stray"], "stray"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options(
    options: list[str],
    expected: str,
    good: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    said = refuse(["train", "--data", good, "--out", out, *options], capsys, out)
    assert expected in said


def test_no_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert "train" in refuse([], capsys)
    assert "did you mean train?" in refuse(["trian"], capsys)
    assert "there is no command foo: take one of train, compare," in refuse(["foo"], capsys)
    assert "name a command first: one of train, compare," in refuse(["--epochs", "3"], capsys)
    assert "(see peercollab train --help)" in refuse(["train", "--foo"], capsys)
    assert "(see peercollab status --help)" in refuse(["status"], capsys)
    assert "--out" in refuse(["train"], capsys)


def test_no_gpu_where_one_is_asked_for(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = tmp_path / "run"
    command = ["train", "--data", good, "--out", out, "--executor", "local", "--device", "cuda"]
    assert "--device cuda" in refuse(command, capsys, out)


def test_a_folder_that_exists_is_kept(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    command = ["train", "--data", good, "--out", out]
    assert "exists already" in refuse(command, capsys)
    assert "not the folder of a run" in refuse([*command, "--overwrite"], capsys)
    assert (out / "thesis.tex").read_text() == "years of work"


def test_a_file_in_place_of_a_folder(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "exists already" in refuse(["train", "--data", good, "--out", good], capsys)
    below = good / "run"
    assert "is a file" in refuse(["train", "--data", good, "--out", below], capsys)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs a file system with permissions")
def test_a_folder_that_cannot_be_written(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    if os.geteuid() == 0:  # Root may write everywhere, so the answer of the system is made up.
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    out = locked / "run"
    said = refuse(["train", "--data", good, "--out", out], capsys, out)
    assert "not writable" in said


@pytest.mark.parametrize(("command", "code"), [("rules", 0), ("train", 130)])
def test_who_has_read_enough_ends_what_is_printed_and_stops_what_is_done(
    command: str, code: int, tmp_path: Path
) -> None:
    options = {"rules": [], "train": ["--out", str(tmp_path / "run"), "--executor", "local"]}
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "peercollab", command, *options[command]],
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            timeout=240,
        )
    finally:
        os.close(theirs)
    assert ended.returncode == code
    said = "peercollab: nobody reads its output any more: it ends here\n"
    assert ended.stderr == (said if code else "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "[::1]:9", "ray://127.0.0.1:9", "host:port"])
def test_no_cluster_at_the_address(
    address: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", "--data", good, "--out", out, "--address", address]
    assert f"--address {address}: nothing answers there" in refuse(command, capsys, out)
