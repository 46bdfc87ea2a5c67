"""The tables of docs/evidence.md and docs/models.md are those of the records beside them."""

import re
from pathlib import Path

import pytest

from scripts.evidence_tables import DOCUMENTS, MARKED, RECORDS, filled, read_record

NAMES = sorted(path.stem for path in RECORDS.glob("*.json"))


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def test_the_documents_say_what_their_records_say() -> None:
    told = set()
    for document in DOCUMENTS:
        text = text_of(document)
        assert filled(text, read_record) == text
        told |= {name for _, _, name, _ in MARKED.findall(text)}
    assert told == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_number_that_is_changed_in_a_table_is_noticed(name: str) -> None:
    texts = map(text_of, DOCUMENTS)
    text, table = next((of, m) for of in texts for m in MARKED.finditer(of) if m[3] == name)
    number = re.search(r"0\.\d{4}", table[0])
    assert number is not None
    at = table.start() + number.start()
    wrong = text[:at] + "0.9999" + text[at + len(number[0]) :]
    assert filled(wrong, read_record) == text


@pytest.mark.parametrize("name", NAMES)
def test_a_record_holds_no_path_and_no_test_value_of_a_trial(name: str) -> None:
    record = read_record(name)
    assert "/" not in record["data"]["name"]
    assert "/" not in record.get("command", "")
    assert all("test" not in trial for trial in record.get("trials", ()))
