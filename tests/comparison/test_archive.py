"""A comparison that is kept without its models, and taken up again somewhere else."""

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peercollab.comparison.compare import compare
from peercollab.comparison.options import CompareOptions
from peercollab.comparison.table import failures_of
from peercollab.errors import PeercollabError
from peercollab.results.heartbeat import Heartbeat
from scripts.evidence_archive import keep, restore
from tests.comparison.archived import require_same_again
from tests.comparison.test_compare import trained, without_costs

ARMS = ("solo", "soup", "layer-wise")


@pytest.fixture(scope="module")
def kept(
    options: CompareOptions, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], CompareOptions, Path]:
    """The result of a comparison, its options, and the folder where its record was put."""
    records = tmp_path_factory.mktemp("records")
    told = replace(options, out=records.with_name("kept-comparison"), arms=ARMS)
    result = compare(told)
    # As if it had been made on a cluster.
    asked = json.loads((told.folder / "asked.json").read_text())
    asked["execution"]["address"] = "10.0.0.1:6379"
    (told.folder / "asked.json").write_text(json.dumps(asked))
    keep(told.folder, "small", records)
    return result, told, records


def test_where_it_is_restored_nothing_is_trained_again(
    kept: tuple[dict[str, Any], CompareOptions, Path], tmp_path: Path
) -> None:
    result, options, records = kept
    assert json.loads((records / "small.json").read_text()) == json.loads(json.dumps(result))
    folder = tmp_path / "elsewhere"
    restore("small", folder, records)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.outcome.json")}
    assert len(times) == 8
    assert compare(replace(options, out=folder)) == result
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.outcome.json")} == times


def test_where_it_is_restored_seeds_and_arms_are_added(
    kept: tuple[dict[str, Any], CompareOptions, Path],
    changed: Callable[..., CompareOptions],
    tmp_path: Path,
) -> None:
    _, options, records = kept
    arms = (*ARMS, "average")
    expected = compare(changed(arms=arms, seeds=3))
    folder = tmp_path / "elsewhere"
    restore("small", folder, records)
    result = compare(replace(options, out=folder, arms=arms, seeds=3))
    assert without_costs(result) == without_costs(expected)
    new = {path.parts[-4:-2] for path in folder.glob("runs/*/*/best/model.json")}
    assert new >= {("average", "seed-5"), ("solo", "seed-7")}
    assert ("solo", "seed-5") not in new
    assert trained(folder) == trained(changed().folder)


def test_an_archive_holds_no_model_and_no_path_and_is_the_same_every_time(
    kept: tuple[dict[str, Any], CompareOptions, Path], tmp_path: Path
) -> None:
    _, options, records = kept
    keep(options.folder, "small", tmp_path)
    archive = (records / "small.tar.xz").read_bytes()
    assert archive == (tmp_path / "small.tar.xz").read_bytes()
    assert len(archive) < 50_000
    folder = tmp_path / "restored"
    restore("small", folder, records)
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    kinds = {"outcome.json", "metrics.json", "rounds.jsonl", "per_user.parquet", "asked.json"}
    assert {name.removeprefix("seed-5.").removeprefix("seed-6.") for name in names} == kinds
    for path in folder.rglob("*.json*"):
        assert str(options.folder.parent) not in path.read_text()
        assert str(Path(options.data).parent) not in path.read_text()
    assert json.loads((folder / "asked.json").read_text())["execution"]["address"] is None


def test_what_failed_is_left_out_and_tried_again(
    kept: tuple[dict[str, Any], CompareOptions, Path], tmp_path: Path
) -> None:
    result, options, records = kept
    folder = tmp_path / "elsewhere"
    restore("small", folder, records)
    outcome = folder / "runs" / "layer-wise" / "seed-5.outcome.json"
    outcome.write_text(json.dumps(json.loads(outcome.read_text()) | {"error": "it broke"}))
    (folder / "comparison.json").write_text(json.dumps(result))
    keep(folder, "broken", tmp_path)
    with tarfile.open(tmp_path / "broken.tar.xz") as archive:
        names = archive.getnames()
    assert "runs/layer-wise/seed-6.outcome.json" in names
    assert not any("layer-wise/seed-5" in name for name in names)
    again = tmp_path / "again"
    restore("broken", again, tmp_path)
    assert without_costs(compare(replace(options, out=again))) == without_costs(result)


def test_an_arm_made_of_models_that_are_gone_is_a_row_that_says_so(
    kept: tuple[dict[str, Any], CompareOptions, Path], tmp_path: Path
) -> None:
    _, options, records = kept
    folder = tmp_path / "elsewhere"
    restore("small", folder, records)
    result = compare(replace(options, out=folder, arms=(*ARMS, "best-of-n")))
    for seed, failed in zip((5, 6), failures_of(result), strict=True):
        told = f"solo, seed {seed}, is done, but its model is not there any more, and best-of-n"
        assert told in failed
    assert [of["arm"] for of in result["differences"]] == ["soup", "layer-wise"]


def test_what_its_runs_came_to_is_found_in_it_again(
    kept: tuple[dict[str, Any], CompareOptions, Path], tmp_path: Path
) -> None:
    _, _, records = kept
    folder = tmp_path / "elsewhere"
    restore("small", folder, records)
    record = json.loads((records / "small.json").read_text())
    require_same_again(record, folder)
    record["differences"][0]["verdict"] += " Or not."
    with pytest.raises(AssertionError):
        require_same_again(record, folder)
    record = json.loads((records / "small.json").read_text())
    record["arms"][0]["seeds"]["5"]["test"]["ndcg@10"] += 1e-6
    with pytest.raises(AssertionError):
        require_same_again(record, folder)


def test_what_cannot_be_kept_leaves_what_was_kept(
    kept: tuple[dict[str, Any], CompareOptions, Path], tmp_path: Path
) -> None:
    _, options, records = kept
    folder = tmp_path / "comparison"
    restore("small", folder, records)
    compare(replace(options, out=folder))
    keep(folder, "small", tmp_path)
    before = (tmp_path / "small.tar.xz").read_bytes()
    shown = (folder / "comparison.json").read_text()

    def refuse(said: str) -> None:
        with pytest.raises(PeercollabError, match=said):
            keep(folder, "small", tmp_path)
        assert (tmp_path / "small.tar.xz").read_bytes() == before
        assert [path.name for path in sorted(tmp_path.glob("small*"))] == [
            "small.json",
            "small.tar.xz",
        ]

    with Heartbeat(folder, lambda: ()):
        refuse("is going on")
    (folder / "comparison.json").write_text(shown.replace("--arms solo", "--arms ./mine"))
    refuse("of code or options in files")
    (folder / "comparison.json").write_text(shown)
    (folder / "endings" / "soup" / "seed-6" / "per_user.parquet").unlink()
    refuse(r"per_user\.parquet")
    (folder / "runs" / "solo" / "seed-5.outcome.json").touch()
    refuse("older than what has been trained")
    (folder / "asked.json").unlink()
    refuse(r"has no comparison\.json")


def test_what_cannot_be_kept_or_restored_is_told(
    kept: tuple[dict[str, Any], CompareOptions, Path], tmp_path: Path
) -> None:
    _, _, records = kept
    with pytest.raises(PeercollabError, match=r"has no comparison\.json"):
        keep(tmp_path, "small", records)
    with pytest.raises(PeercollabError, match=r"there is no .*other\.tar\.xz"):
        restore("other", tmp_path / "new", records)
    with pytest.raises(PeercollabError, match="is there already"):
        restore("small", tmp_path, records)
