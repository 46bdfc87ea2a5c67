"""The tables of docs/evidence.md are those of the records beside it."""

import re

import pytest

from scripts.evidence_tables import DOCUMENT, MARKED, filled, read_record

RECORDS = sorted(path.stem for path in (DOCUMENT.parent / "evidence").glob("*.json"))


def test_the_document_says_what_its_records_say() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert filled(document, read_record) == document
    assert {name for _, _, name, _ in MARKED.findall(document)} == set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_a_number_that_is_changed_in_a_table_is_noticed(name: str) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    table = next(part for part in MARKED.finditer(document) if part[3] == name)
    number = re.search(r"0\.\d{4}", table[0])
    assert number is not None
    at = table.start() + number.start()
    wrong = document[:at] + "0.9999" + document[at + len(number[0]) :]
    assert filled(wrong, read_record) == document


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_holds_no_path_and_no_test_value_of_a_trial(name: str) -> None:
    record = read_record(name)
    assert "/" not in record["data"]["name"]
    assert "/" not in record["command"]
    assert all("test" not in trial for trial in record["trials"])
