"""The tables of docs/evidence.md and docs/models.md are those of the records beside them."""

import re
from pathlib import Path

import pytest

from peercollab.comparison.conclusion import conclusion
from peercollab.significance.holm import holm
from scripts.evidence_archive import restore
from scripts.evidence_tables import DOCUMENTS, MARKED, RECORDS, filled, read_record
from tests.comparison.archived import require_same_again

NAMES = sorted(path.stem for path in RECORDS.glob("*.json"))
ARCHIVED = sorted(path.name.removesuffix(".tar.xz") for path in RECORDS.glob("*.tar.xz"))


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


@pytest.mark.parametrize("name", [name for name in NAMES if "differences" in read_record(name)])
def test_what_a_record_concludes_follows_from_its_numbers(name: str) -> None:
    record = read_record(name)
    differences = record["differences"]
    assert record["conclusion"] == conclusion(
        differences, record["arms"], record["baseline"], record.get("popularity")
    )
    for question in ("new_users", "new_trainings", "both"):
        answers = [of[question] for of in differences if of[question]]
        adjusted = holm([answer["p_value"] for answer in answers])
        assert [answer["p_adjusted"] for answer in answers] == pytest.approx(adjusted)
    for of in differences:
        assert of["difference"] == pytest.approx(sum(of["by_seed"]) / len(of["by_seed"]))
        assert of["difference"] == pytest.approx(of["arm_mean"] - of["baseline_mean"])
        arm = next(arm for arm in record["arms"] if arm["name"] == of["arm"])
        tests = [arm["seeds"][str(seed)]["test"][record["metric"]] for seed in of["seeds"]]
        assert of["arm_mean"] == pytest.approx(sum(tests) / len(tests))


@pytest.mark.parametrize("name", ARCHIVED)
def test_a_record_says_what_the_runs_in_its_archive_came_to(name: str, tmp_path: Path) -> None:
    restore(name, tmp_path / "comparison")
    require_same_again(read_record(name), tmp_path / "comparison")


@pytest.mark.parametrize("name", NAMES)
def test_a_record_holds_no_path_and_no_test_value_of_a_trial(name: str) -> None:
    record = read_record(name)
    assert "/" not in record["data"]["name"]
    assert "/" not in record.get("command", "")
    assert all("test" not in trial for trial in record.get("trials", ()))
