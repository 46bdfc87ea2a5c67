"""The report of a run: what it says, and from what it can be written."""

import base64
import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from peercollab.errors import PeercollabError
from peercollab.results.report import write_report

MakeRecord = Callable[..., dict[str, Any]]
MakeRun = Callable[..., Path]

CURVES_AND_COSTS = 2
ALL_PICTURES = 4


class Page(HTMLParser):
    """What a reader sees: text in one line, rows of tables, pictures, and open elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.rows: list[list[str]] = []
        self.pictures: list[bytes] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.feed(page)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "img":
            head, _, image = (dict(attrs)["src"] or "").partition(",")
            assert head == "data:image/svg+xml;base64"
            self.pictures.append(base64.b64decode(image))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        self.pieces.append(data)


def read(folder: Path) -> Page:
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert not page.open
    return page


def test_the_report_opens_with_the_result(make_run: MakeRun, make_record: MakeRecord) -> None:
    page = read(make_run(*(make_record(round) for round in (1, 2, 3))))
    assert "Data log.csv; 2 peers, rule layer-wise; 3 of at most 9 rounds." in page.text
    assert "Test NDCG@10 is 0.0500 , 2.00 times the 0.0250 of" in page.text
    assert "peer 2 as it was in round 3" in page.text
    assert "helped is not known from this run" in page.text
    assert "--rule none" in page.text


def test_all_metrics_stand_in_a_table(make_run: MakeRun, make_record: MakeRecord) -> None:
    rows = read(make_run(make_record(1))).rows
    assert ["metric", "validation", "test", "popularity (test)", "test / popularity"] in rows
    assert ["NDCG@10", "0.0320", "0.0500", "0.0250", "2.00"] in rows
    assert ["MRR@5", "0.0080", "0.0125", "0.0063", "2.00"] in rows
    assert sum("@" in row[0] for row in rows) == 9


def test_options_and_environment_are_folded_in(make_run: MakeRun, make_record: MakeRecord) -> None:
    page = read(make_run(make_record(1)))
    assert "details" in page.tags
    assert ["training.lr", "0.001"] in page.rows
    assert ["packages.torch", "2.13.0"] in page.rows


def test_the_file_needs_nothing_else(make_run: MakeRun, make_record: MakeRecord) -> None:
    folder = make_run(make_record(1), make_record(2))
    page = read(folder)
    assert len(page.pictures) == ALL_PICTURES
    assert all(b"</svg>" in picture for picture in page.pictures)
    assert page.tags.isdisjoint({"script", "link", "iframe", "a", "object"})
    assert not re.search(r"https?:|url\(|@import", (folder / "report.html").read_text())
    assert not re.search(rb"<script|(href|src)=\"http", b"".join(page.pictures))


def test_names_are_escaped(make_run: MakeRun, make_record: MakeRecord) -> None:
    odd = "<script>alert('1')</script> & \"caf\u00e9\" \udcff.csv"
    page = read(make_run(make_record(1), data=odd))
    assert "script" not in page.tags
    assert "<script>alert('1')</script> & \"caf\u00e9\" \\udcff.csv" in page.text


def test_without_exchange_there_is_no_map_and_it_says_so(
    make_run: MakeRun, make_record: MakeRecord
) -> None:
    page = read(make_run(make_record(1, exchange=False), rule="none"))
    assert len(page.pictures) == CURVES_AND_COSTS
    assert "No weights were exchanged in this run" in page.text
    assert "helped is not known" not in page.text
    assert "MB of weights" not in page.text


def test_noise_is_told_as_what_it_is(make_run: MakeRun, make_record: MakeRecord) -> None:
    record = make_record(1) | {"transfers": [], "statistics": {}, "bytes_moved": 0}
    page = read(make_run(record, rule="noise"))
    assert len(page.pictures) == CURVES_AND_COSTS
    assert "Weights were disturbed by noise in this run. Nothing travelled" in page.text
    assert "No weights were exchanged" not in page.text
    assert "other side of a comparison" not in page.text


def test_from_three_peers_on_it_is_shown_who_gave(
    make_run: MakeRun, make_record: MakeRecord
) -> None:
    page = read(make_run(make_record(1, peers=3)))
    assert len(page.pictures) == ALL_PICTURES + 1
    assert "Each donor's share in each receiver" in page.text


def test_rounds_may_lack_validation(make_run: MakeRun, make_record: MakeRecord) -> None:
    page = read(make_run(make_record(1, validated=False), make_record(2)))
    assert len(page.pictures) == ALL_PICTURES


def test_a_stopped_run_is_reported_on_validation(
    make_run: MakeRun, make_record: MakeRecord, metrics: dict[str, Any]
) -> None:
    del metrics["test"]
    page = read(make_run(make_record(1), make_record(2), make_record(3), metrics=metrics))
    assert "Validation NDCG@10 is 0.0320 , 1.60 times the 0.0200 of" in page.text
    assert "has not come to its end: nothing was ranked on test" in page.text
    assert ["NDCG@10", "0.0320", "0.0200", "1.60"] in page.rows


def test_a_run_that_has_validated_nothing_yet_can_be_reported(
    make_run: MakeRun, make_record: MakeRecord
) -> None:
    page = read(make_run(make_record(1, validated=False), metrics=None))
    assert "No state has been ranked on validation yet." in page.text
    assert "There are none yet." in page.text
    assert len(page.pictures) == ALL_PICTURES


@pytest.mark.parametrize("left", [1, 200])
def test_a_line_that_was_cut_off_is_left_out_and_said(
    left: int, make_run: MakeRun, make_record: MakeRecord
) -> None:
    folder = make_run(make_record(1), make_record(2))
    assert "rounds.jsonl is unfinished" not in read(folder).text
    with (folder / "rounds.jsonl").open("a") as file:
        file.write(json.dumps(make_record(3))[:left])
    page = read(folder)
    assert "rounds.jsonl is unfinished" in page.text
    assert "2 of at most 9 rounds" in page.text


def test_failures_are_told(make_run: MakeRun, make_record: MakeRecord) -> None:
    record = make_record(2) | {"failures": [{"peer": 1, "step": 7, "reason": "<lost>"}]}
    page = read(make_run(make_record(1), record))
    told = "round 2, peer 1: <lost> (noticed by step 7 of the epoch)"
    assert f"Peers that sat a round out: {told}" in page.text


def test_losses_and_options_that_were_not_given_are_told(
    make_run: MakeRun, make_record: MakeRecord
) -> None:
    record = make_record(2) | {"interruptions": ["peer 1 died of <hunger>"]}
    page = read(make_run(make_record(1), record))
    assert "before the end of round 2: peer 1 died of <hunger>" in page.text
    assert "null" not in page.text


def test_a_report_replaces_the_one_before(make_run: MakeRun, make_record: MakeRecord) -> None:
    folder = make_run(make_record(1))
    before = set(folder.iterdir())
    (folder / "report.html").write_text("an old report")
    assert write_report(folder) == folder / "report.html"
    assert set(folder.iterdir()) == before | {folder / "report.html"}
    assert "an old report" not in (folder / "report.html").read_text()


def test_the_same_run_gives_the_same_report(make_run: MakeRun, make_record: MakeRecord) -> None:
    folder = make_run(make_record(1))
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for folder, said in (
        (tmp_path / "nothing", "nothing does not exist"),
        (tmp_path, "not the folder of a run"),
    ):
        with pytest.raises(PeercollabError, match=said):
            write_report(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", "{", r"config\.json is damaged"),
        ("config.json", '{"data": "log.csv"}', r"config\.json has no training"),
        ("metrics.json", "{", r"metrics\.json is damaged"),
        ("environment.json", "[]", r"environment\.json is damaged"),
        ("rounds.jsonl", "", "no round of this run has been completed"),
        ("rounds.jsonl", '{"round": 1, "pee', "no round of this run has been completed"),
        ("rounds.jsonl", '{"rou\n{"round"', r"rounds\.jsonl, line 1 is damaged"),
        ("rounds.jsonl", "[1]\n{}", r"rounds\.jsonl, line 1 is damaged"),
    ],
)
def test_what_is_damaged_is_named(
    name: str, content: str, told: str, make_run: MakeRun, make_record: MakeRecord
) -> None:
    folder = make_run(make_record(1))
    (folder / name).write_text(content)
    with pytest.raises(PeercollabError, match=told):
        write_report(folder)
    assert not (folder / "report.html").exists()


def of_another_version(record: dict[str, Any], *path: str | int) -> dict[str, Any]:
    """The record without what is at this place."""
    *above, last = path
    inner: Any = record
    for step in above:
        inner = inner[step]
    del inner[last]
    return record


@pytest.mark.parametrize(
    "path",
    [
        ("round",),
        ("layers",),
        ("failures",),
        ("exchanges",),
        ("receivers",),
        ("bytes_moved",),
        ("peers", 1, "validation"),
        ("transfers", 1, "shares"),
        ("failures", 0, "step"),
    ],
)
def test_a_record_of_another_version_is_told_as_that(
    path: tuple[str | int, ...], make_run: MakeRun, make_record: MakeRecord
) -> None:
    record = make_record(2) | {"failures": [{"peer": 1, "step": 7, "reason": "lost"}]}
    folder = make_run(make_record(1), of_another_version(record, *path))
    told = r"line 2 is the record of another version of peercollab: train again$"
    with pytest.raises(PeercollabError, match=told) as error:
        write_report(folder)
    assert "\n" not in str(error.value)


def test_more_than_a_report_needs_is_no_obstacle(
    make_run: MakeRun, make_record: MakeRecord
) -> None:
    read(make_run(make_record(1) | {"of later versions": 1}))


def test_a_report_that_cannot_be_written_is_told(
    make_run: MakeRun, make_record: MakeRecord
) -> None:
    folder = make_run(make_record(1))
    (folder / "report.html").mkdir()
    with pytest.raises(PeercollabError, match=re.escape(f"{os.sep}report.html cannot be written")):
        write_report(folder)
