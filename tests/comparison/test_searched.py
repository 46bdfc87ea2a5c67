"""Whole comparisons whose options are searched: what is chosen, and what stays of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from peercollab.cli import main
from peercollab.comparison.compare import compare
from peercollab.comparison.options import CompareOptions
from peercollab.errors import PeercollabError
from peercollab.options import TrainOptions
from peercollab.rounds import RunResult
from peercollab.run import train
from tests.comparison.test_compare import trained, without_costs

Changed = Callable[..., CompareOptions]


def test_what_was_chosen_on_validation_is_trained_under_all_seeds(changed: Changed) -> None:
    options = changed(arms=("solo", "average"), trials=2)
    result = compare(options)
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for trial in result["trials"]:
        costs = {"seconds", "core_seconds", "gpu_seconds"}
        assert trial.keys() == {"arm", "trial", "changes", "error", "validation"} | costs
        assert trial["seconds"] > 0
        by_arm.setdefault(trial["arm"], []).append(trial)
    for arm in result["arms"]:
        trials = by_arm[arm["name"]]
        best = max(trials, key=lambda trial: trial["validation"])
        assert arm["changes"] == best["changes"]
        (run,) = arm["runs"]
        assert run == arm["name"] + (f".t{best['trial']}" if best["trial"] else "")
    searched = [name for name, seed in trained(options.folder) if seed == "seed-10005"]
    assert sorted(searched) == [
        f"{a}{mark}" for a in ("average", "solo") for mark in ("", ".t1", ".t2")
    ]


def test_what_was_chosen_stays_and_what_failed_in_the_search_is_not_tried_again(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_but_trials(options: TrainOptions, **settings: Any) -> RunResult:
        if ".t" in str(options.folder):
            raise OSError("a broken disk")
        return train(options, **settings)

    options = changed(arms=("solo", "whole=--rule none --peers 1 --lr 0.01 --dropout 0"), trials=1)
    with monkeypatch.context() as broken:
        broken.setattr("peercollab.comparison.work.train", train_but_trials)
        first = compare(options)
    # An arm that leaves nothing open is not searched.
    assert [trial["arm"] for trial in first["trials"]] == ["solo", "solo"]
    assert ("whole", "seed-10005") not in trained(options.folder)
    assert [trial["error"] for trial in first["trials"]] == [None, "OSError: a broken disk"]
    assert json.loads((options.folder / "chosen.json").read_text()) == {"solo": 0}
    again = compare(replace(options, seeds=3, arms=(*options.arms, "average")))
    assert [trial["error"] is None for trial in again["trials"]] == [True, False, True, True]
    assert again["arms"][0]["runs"] == ["solo"]
    assert main(["report", str(options.folder)]) == 0
    page = (options.folder / "report.html").read_text()
    assert "OSError: a broken disk" in page
    assert str(timedelta(seconds=round(first["trials"][0]["seconds"]))) in page
    for damage in ("{", "[]", '{"solo": "first"}'):
        (options.folder / "chosen.json").write_text(damage)
        with pytest.raises(PeercollabError, match=r"chosen\.json is damaged"):
            compare(options)


def test_an_arm_of_which_all_trials_failed_has_taken_nothing(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_but_average(options: TrainOptions, **settings: Any) -> RunResult:
        if "average" in str(options.folder):
            raise OSError("a broken disk")
        return train(options, **settings)

    options = changed(arms=("solo", "average"), trials=1, seeds=1)
    with monkeypatch.context() as broken:
        broken.setattr("peercollab.comparison.work.train", train_but_average)
        result = compare(options)
    assert result["conclusion"].startswith("All trials of average failed")
    assert json.loads((options.folder / "chosen.json").read_text()).keys() == {"solo"}
    # What the disk has done is no choice: once it is whole, the search is.
    again = compare(options)
    assert [trial["error"] for trial in again["trials"]] == [None] * 4
    assert [of["arm"] for of in again["differences"]] == ["average"]


def test_test_is_not_looked_at_by_the_search(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = changed(arms=("solo", "average"), trials=1, seeds=1)
    first = compare(options)
    # Were the test values of all trials others, the same would be chosen.
    for path in options.folder.glob("runs/*/seed-10005/metrics.json"):
        metrics = json.loads(path.read_text())
        metrics["test"] = {name: 1 - value for name, value in metrics["test"].items()}
        path.write_text(json.dumps(metrics))
    (options.folder / "chosen.json").unlink()
    assert without_costs(compare(options)) == without_costs(first)


def test_a_search_that_is_stopped_says_so_and_comes_to_the_same(
    changed: Changed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = changed(arms=("solo", "average"), trials=1, seeds=1)
    undisturbed = compare(replace(options, out=tmp_path / "undisturbed"))
    left = 3

    def train_some(options: TrainOptions, **settings: Any) -> RunResult:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return train(options, **settings)

    with monkeypatch.context() as stopped:
        stopped.setattr("peercollab.comparison.work.train", train_some)
        with pytest.raises(KeyboardInterrupt):
            compare(options)
    result = json.loads((options.folder / "comparison.json").read_text())
    assert result["conclusion"] == "The search for options has not come to its end."
    assert result["differences"] == []
    assert [trial["error"] is None for trial in result["trials"]] == [True, True, True, False]
    assert all(entry is None for arm in result["arms"] for entry in arm["seeds"].values())
    assert without_costs(compare(options)) == without_costs(undisturbed)


def test_a_later_search_that_is_stopped_leaves_what_is_known_of_others(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_but_average(options: TrainOptions, **settings: Any) -> RunResult:
        if "average" in str(options.folder):
            raise KeyboardInterrupt
        return train(options, **settings)

    first = compare(changed(trials=1))
    monkeypatch.setattr("peercollab.comparison.work.train", train_but_average)
    options = changed(arms=("solo", "layer-wise", "average"), trials=1)
    with pytest.raises(KeyboardInterrupt):
        compare(options)
    later = json.loads((options.folder / "comparison.json").read_text())
    assert later["conclusion"] == "The search for options has not come to its end."
    assert [arm["seeds"] for arm in later["arms"][:2]] == [arm["seeds"] for arm in first["arms"]]
    assert list(later["arms"][2]["seeds"].values()) == [None, None]
