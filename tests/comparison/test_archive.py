"""A comparison that is kept without its models, and taken up again somewhere else."""

import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from peercollab.comparison.compare import compare
from peercollab.comparison.options import CompareOptions
from peercollab.comparison.status import serving_command
from peercollab.comparison.table import failures_of
from peercollab.errors import PeercollabError
from peercollab.results.heartbeat import Heartbeat
from scripts.evidence_archive import keep, restore
from tests.comparison.archived import require_same_again
from tests.comparison.test_compare import trained, without_costs

ARMS = ("solo", "soup", "layer-wise")


@dataclass(frozen=True)
class Kept:
    """The result of a comparison, its options, and the folder where its record was put."""

    result: dict[str, Any]
    options: CompareOptions
    records: Path

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.records / "small.json").read_text()))


@pytest.fixture(scope="module")
def kept(options: CompareOptions, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    records = tmp_path_factory.mktemp("records")
    told = replace(options, out=records.with_name("kept-comparison"), arms=ARMS)
    result = compare(told)
    # As if it had been made on a cluster.
    asked = json.loads((told.folder / "asked.json").read_text())
    asked["execution"]["address"] = "10.0.0.1:6379"
    (told.folder / "asked.json").write_text(json.dumps(asked))
    keep(told.folder, "small", records)
    return Kept(result, told, records)


@pytest.fixture
def restored(kept: Kept, tmp_path: Path) -> Path:
    """A folder that was made of the archive."""
    restore("small", tmp_path / "elsewhere", kept.records)
    return tmp_path / "elsewhere"


def test_where_it_is_restored_nothing_is_trained_again(kept: Kept, restored: Path) -> None:
    assert kept.record == json.loads(json.dumps(kept.result))
    times = {path: path.stat().st_mtime_ns for path in restored.rglob("*.outcome.json")}
    assert len(times) == 8
    result = compare(replace(kept.options, out=restored))
    assert result == kept.result
    # Models are not kept.
    assert serving_command(kept.options.folder, result) is not None
    assert serving_command(restored, result) is None
    assert {path: path.stat().st_mtime_ns for path in restored.rglob("*.outcome.json")} == times


def test_where_it_is_restored_seeds_and_arms_are_added(
    kept: Kept, restored: Path, changed: Callable[..., CompareOptions]
) -> None:
    arms = (*ARMS, "average")
    expected = compare(changed(arms=arms, seeds=3))
    result = compare(replace(kept.options, out=restored, arms=arms, seeds=3))
    assert without_costs(result) == without_costs(expected)
    new = {path.parts[-4:-2] for path in restored.glob("runs/*/*/best/model.json")}
    assert new >= {("average", "seed-5"), ("solo", "seed-7")}
    assert ("solo", "seed-5") not in new
    assert trained(restored) == trained(changed().folder)


def test_what_a_search_chose_is_kept(
    tmp_path: Path, changed: Callable[..., CompareOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = changed(arms=("solo", "average"), seeds=1, trials=1)
    result = compare(options)
    keep(options.folder, "searched", tmp_path)
    restore("searched", tmp_path / "elsewhere", tmp_path)
    monkeypatch.setattr("peercollab.comparison.work.train", pytest.fail)
    assert compare(replace(options, out=tmp_path / "elsewhere")) == result
    assert json.loads((tmp_path / "elsewhere" / "chosen.json").read_text()).keys() == {
        "solo",
        "average",
    }


def test_an_archive_holds_no_model_and_no_path_and_is_the_same_every_time(
    kept: Kept, restored: Path, tmp_path: Path
) -> None:
    keep(kept.options.folder, "small", tmp_path)
    archive = (kept.records / "small.tar.xz").read_bytes()
    assert archive == (tmp_path / "small.tar.xz").read_bytes()
    assert len(archive) < 50_000
    names = {path.name for path in restored.rglob("*") if path.is_file()}
    kinds = {"outcome.json", "metrics.json", "rounds.jsonl", "per_user.parquet", "asked.json"}
    assert {name.removeprefix("seed-5.").removeprefix("seed-6.") for name in names} == kinds
    for path in restored.rglob("*.json*"):
        assert str(kept.options.folder.parent) not in path.read_text()
        assert str(Path(kept.options.data).parent) not in path.read_text()
    assert json.loads((restored / "asked.json").read_text())["execution"]["address"] is None


def test_what_failed_is_left_out_and_tried_again(
    kept: Kept, restored: Path, tmp_path: Path
) -> None:
    outcome = restored / "runs" / "layer-wise" / "seed-5.outcome.json"
    outcome.write_text(json.dumps(json.loads(outcome.read_text()) | {"error": "it broke"}))
    (restored / "comparison.json").write_text(json.dumps(kept.result))
    keep(restored, "broken", tmp_path)
    with tarfile.open(tmp_path / "broken.tar.xz") as archive:
        names = archive.getnames()
    assert "runs/layer-wise/seed-6.outcome.json" in names
    assert not any("layer-wise/seed-5" in name for name in names)
    again = tmp_path / "again"
    restore("broken", again, tmp_path)
    result = compare(replace(kept.options, out=again))
    assert without_costs(result) == without_costs(kept.result)


def test_an_arm_made_of_models_that_are_gone_is_a_row_that_says_so(
    kept: Kept, restored: Path
) -> None:
    result = compare(replace(kept.options, out=restored, arms=(*ARMS, "best-of-n")))
    for seed, failed in zip((5, 6), failures_of(result), strict=True):
        told = f"solo, seed {seed}, is done, but its model is not there any more, and best-of-n"
        assert told in failed
    assert [of["arm"] for of in result["differences"]] == ["soup", "layer-wise"]


def test_what_its_runs_came_to_is_found_in_it_again(kept: Kept, restored: Path) -> None:
    require_same_again(kept.record, restored)
    changed = [kept.record, kept.record]
    changed[0]["differences"][0]["verdict"] += " Or not."
    changed[1]["arms"][0]["seeds"]["5"]["test"]["ndcg@10"] += 1e-6
    for record in changed:
        with pytest.raises(AssertionError):
            require_same_again(record, restored)


def test_what_cannot_be_kept_leaves_what_was_kept(
    kept: Kept, restored: Path, tmp_path: Path
) -> None:
    compare(replace(kept.options, out=restored))
    keep(restored, "small", tmp_path)
    before = (tmp_path / "small.tar.xz").read_bytes()

    def refuse(said: str) -> None:
        with pytest.raises(PeercollabError, match=said):
            keep(restored, "small", tmp_path)
        assert (tmp_path / "small.tar.xz").read_bytes() == before
        names = sorted(path.name for path in tmp_path.glob("small*"))
        assert names == ["small.json", "small.tar.xz"]

    with Heartbeat(restored, lambda: ()):
        refuse("is going on")
    asked = (restored / "asked.json").read_text()
    for own in ("mine=--config own.toml", "mine=--config=own.toml"):
        (restored / "asked.json").write_text(asked.replace('"told": "solo"', f'"told": "{own}"', 1))
        refuse("of code or options in files")
    for own in ('"--rule": "own.py:mix"', '"--model": "own.py:Mine"'):
        option = own.partition(":")[0]
        changed = re.sub(f'{option}: "[^"]*"', own, asked, count=1)
        assert changed != asked
        (restored / "asked.json").write_text(changed)
        refuse("of code or options in files")
    (restored / "asked.json").write_text(asked)
    (restored / "endings" / "soup" / "seed-6" / "per_user.parquet").unlink()
    refuse(r"per_user\.parquet")
    (restored / "runs" / "solo" / "seed-5.outcome.json").touch()
    refuse("older than what has been trained")
    (restored / "asked.json").unlink()
    refuse(r"has no comparison\.json")


def test_what_is_not_there_or_there_already_is_told(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(PeercollabError, match=r"has no comparison\.json"):
        keep(tmp_path, "small", kept.records)
    with pytest.raises(PeercollabError, match=r"there is no .*other\.tar\.xz"):
        restore("other", tmp_path / "new", kept.records)
    with pytest.raises(PeercollabError, match="is there already"):
        restore("small", tmp_path, kept.records)
