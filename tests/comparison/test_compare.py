"""Whole comparisons on a small log: shared work, failures, interruptions, and what is refused."""

import copy
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peercollab.actors.pool import LocalPool
from peercollab.cli import main
from peercollab.comparison.compare import compare
from peercollab.comparison.options import CompareOptions
from peercollab.comparison.table import failures_of, seeds_of
from peercollab.comparison.work import Job, forget_peaks_on
from peercollab.errors import PeercollabError
from peercollab.models.options import ModelOptions
from peercollab.options import TrainOptions
from peercollab.results.heartbeat import Heartbeat
from peercollab.results.per_user import read_per_user
from peercollab.rounds import RunResult
from peercollab.run import train
from peercollab.training.metrics import SELECTION_METRIC, gains_of
from tests.models.guide import python_of_the_guide
from tests.traces import Watched, rounds_in, wait_until

Changed = Callable[..., CompareOptions]

COSTS = ("seconds", "core_seconds", "gpu_seconds", "peak_bytes", "gpu_peak_bytes")
NETWORK = "--hidden-size 8 --blocks 1 --max-length 10 --batch-size 16 --min-interactions 1"
EPOCHS = 6
ARMS = ("solo", "best-of-n", "ensemble", "layer-wise", "mine=--rule average --lr 0.01")


def without_costs(result: Mapping[str, Any]) -> dict[str, Any]:
    kept = copy.deepcopy(dict(result))
    for arm in kept["arms"]:
        for entry in arm["seeds"].values():
            _drop_costs(entry)
    for trial in kept["trials"]:
        _drop_costs(trial)
    # A cheaper arm is told with its cost.
    kept["conclusion"] = kept["conclusion"].partition(" Nor is ")[0]
    return kept


def _drop_costs(entry: dict[str, Any] | None) -> None:
    for cost in COSTS:
        if entry is not None:
            entry.pop(cost, None)


def trained(folder: Path) -> list[tuple[str, str]]:
    """Trainings that were done, by name and seed."""
    found = (folder / "runs").glob("*/seed-*.outcome.json")
    return sorted((path.parent.name, path.name.partition(".")[0]) for path in found)


@pytest.fixture(scope="module")
def whole(options: CompareOptions) -> dict[str, Any]:
    """A comparison that nothing disturbed."""
    return compare(replace(options, arms=ARMS))


def test_runs_that_arms_share_are_trained_once(
    whole: dict[str, Any], options: CompareOptions
) -> None:
    assert whole["baseline"] == "solo"
    names = ["layer-wise", "mine", "solo", "solo-2"]
    assert trained(options.folder) == [(name, f"seed-{seed}") for name in names for seed in (5, 6)]


def test_the_result_is_that_of_the_runs(whole: dict[str, Any], options: CompareOptions) -> None:
    written = json.loads((options.folder / "comparison.json").read_text())
    assert written == json.loads(json.dumps(whole))
    found = {of["arm"]: of for of in whole["differences"]}
    assert list(found) == ["best-of-n", "ensemble", "layer-wise", "mine"]
    values = {}
    for arm in whole["arms"]:
        assert list(arm["seeds"]) == ["5", "6"]
        kind = "endings" if arm["name"] in ("best-of-n", "ensemble") else "runs"
        for seed, entry in arm["seeds"].items():
            run = options.folder / kind / arm["name"] / f"seed-{seed}"
            gains_U = gains_of(read_per_user(run, "test").ranks_U)[SELECTION_METRIC]
            assert entry["test"][SELECTION_METRIC] == pytest.approx(np.mean(gains_U))
            assert entry["rounds"] == 2
            assert entry["seconds"] > 0
            assert entry["core_seconds"] == pytest.approx(entry["seconds"])
            values[arm["name"], seed] = gains_U
    mean = np.mean([values["mine", seed] - values["solo", seed] for seed in ("5", "6")])
    assert found["mine"]["difference"] == pytest.approx(mean)


def test_costs_of_what_is_shared_count_for_each(
    whole: dict[str, Any], options: CompareOptions
) -> None:
    arms = {arm["name"]: arm for arm in whole["arms"]}
    for seed in ("5", "6"):
        solo, best, ensemble = (
            arms[name]["seeds"][seed] for name in ("solo", "best-of-n", "ensemble")
        )
        # Both are ranked once more, and of two the best is found first.
        outcome = options.folder / "runs" / "solo-2" / f"seed-{seed}.outcome.json"
        other = json.loads(outcome.read_text())["seconds"]
        for of in (best, ensemble):
            assert solo["seconds"] + other < of["seconds"] < solo["seconds"] + other + 30
            assert of["core_seconds"] == pytest.approx(of["seconds"])
        assert best["parameters"] == solo["parameters"]
        assert ensemble["parameters"] == 2 * solo["parameters"]
    assert [arms[name]["inference_cost"] for name in ("solo", "best-of-n", "ensemble")] == [1, 1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets the most that was held")
def test_memory_is_told_of_what_shares_a_process(whole: dict[str, Any]) -> None:
    assert all(
        50e6 < entry["peak_bytes"] < 20e9 and entry["gpu_peak_bytes"] is None
        for arm in whole["arms"]
        for entry in arm["seeds"].values()
    )


def test_one_model_is_that_of_a_run_by_itself(
    whole: dict[str, Any], options: CompareOptions, tmp_path: Path
) -> None:
    command = ["train", "--data", options.data, "--out", str(tmp_path / "run"), "--seed", "6"]
    alone = "--executor local --peers 1 --rule none --threads-per-peer 1 --epochs 2"
    assert main([*command, *alone.split(), *NETWORK.split()]) == 0
    own, other = tmp_path / "run", options.folder / "runs" / "solo" / "seed-6"
    assert (own / "best" / "model.safetensors").read_bytes() == (
        other / "best" / "model.safetensors"
    ).read_bytes()
    assert json.loads((own / "metrics.json").read_text()) == json.loads(
        (other / "metrics.json").read_text()
    )


def test_networks_of_ones_own_end_as_one_too(
    changed: Changed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.py"
    file.write_text(python_of_the_guide()[0], encoding="utf-8")
    model = f"{file}:Recent"
    arms = ("solo", "soup", "soup-greedy", "best-of-n", "ensemble")
    result = compare(changed(model=ModelOptions(model), arms=arms, seeds=1))
    assert not list(failures_of(result))
    soup = changed().folder / "endings" / "soup" / "seed-5"
    recommend = ["recommend", str(soup), "--histories", changed().data, "--k", "2"]
    assert main(recommend) == 2
    assert "give --model path/to/file.py:Recent if it is yours" in capsys.readouterr().err
    assert main([*recommend, "--model", model]) == 0


def test_checkpoints_of_finished_runs_are_removed(
    whole: dict[str, Any], options: CompareOptions
) -> None:
    assert not list(options.folder.rglob("checkpoints"))


def test_arms_and_seeds_can_be_added_and_only_these_are_trained(changed: Changed) -> None:
    first = compare(changed())
    folder = changed().folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.outcome.json")}
    assert trained(folder) == [
        (name, f"seed-{seed}") for name in ("layer-wise", "solo") for seed in (5, 6)
    ]
    more = compare(changed(arms=("solo", "average", "layer-wise"), seeds=3))
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    names = ("average", "layer-wise", "solo")
    assert trained(folder) == [(name, f"seed-{seed}") for name in names for seed in (5, 6, 7)]
    arms = {arm["name"]: arm["seeds"] for arm in more["arms"]}
    for arm in first["arms"]:
        for seed, entry in arm["seeds"].items():
            assert arms[arm["name"]][seed] == entry
    # Arms that are left out this time are left where they are.
    assert [arm["name"] for arm in compare(changed())["arms"]] == ["solo", "layer-wise"]
    assert ("average", "seed-5") in trained(folder)


def test_a_training_that_fails_is_told_and_the_others_are_compared(changed: Changed) -> None:
    wild = "wild=--rule none --peers 1 --lr 1e30"
    result = compare(changed(arms=("solo", wild, "average")))
    assert [of["arm"] for of in result["differences"]] == ["average"]
    told = failures_of(result)
    assert [line.partition(":")[0] for line in told] == ["wild, seed 5", "wild, seed 6"]
    assert all("train again with a lower --lr" in line for line in told)


def test_what_failed_before_it_was_begun_is_told_as_well(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def each(self: object, work: object, items: Sequence[Job], watch: object) -> Iterator[Any]:
        return ((item, PeercollabError("its process died")) for item in items)

    monkeypatch.setattr("peercollab.actors.pool.LocalPool.each", each)
    assert failures_of(compare(changed(seeds=1))) == [
        f"{arm}, seed 5: failed: its process died" for arm in ("solo", "layer-wise")
    ]


def test_a_training_whose_outcome_is_damaged_is_done_again(changed: Changed) -> None:
    first = compare(changed(seeds=1))
    outcome = changed().folder / "runs" / "solo" / "seed-5.outcome.json"
    outcome.write_text("{")
    assert without_costs(compare(changed(seeds=1))) == without_costs(first)
    assert json.loads(outcome.read_text())["error"] is None


def test_what_is_done_under_a_seed_is_compared_before_the_others_are(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_before(options: TrainOptions, **settings: Any) -> RunResult:
        if "layer-wise/seed-6" in str(options.folder):
            raise KeyboardInterrupt
        return train(options, **settings)

    options = changed()
    monkeypatch.setattr("peercollab.comparison.work.train", train_before)
    with pytest.raises(KeyboardInterrupt):
        compare(options)
    result = json.loads((options.folder / "comparison.json").read_text())
    (difference,) = result["differences"]
    assert difference["arm"] == "layer-wise"
    assert len(difference["by_seed"]) == 1
    assert seeds_of(result) == [
        "differences are of seed 5 alone: done of all arms that were begun, and not failed for solo"
    ]
    assert main(["report", str(options.folder)]) == 0
    page = (options.folder / "report.html").read_text()
    assert seeds_of(result)[0] in page
    assert "The same by other methods" not in page
    monkeypatch.undo()
    result = compare(options)
    assert seeds_of(result) == []
    assert main(["report", str(options.folder)]) == 0
    (difference,) = result["differences"]
    low = f"bootstrap of seeds and users: {difference['bootstrap']['low']:+.4f}"
    assert low in (options.folder / "report.html").read_text()


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        '{"data_checksum": "1", "arms": 3}',
        '{"data_checksum": "1", "arms": {"solo": {"told": "solo"}}}',
        "no json",
    ],
)
def test_a_damaged_record_of_what_was_asked_is_told(content: str, changed: Changed) -> None:
    options = changed()
    options.folder.mkdir()
    (options.folder / "asked.json").write_text(content)
    with pytest.raises(PeercollabError, match=r"asked\.json is damaged"):
        compare(options)


def test_without_a_baseline_nothing_is_said_to_differ(changed: Changed) -> None:
    wild = "wild=--rule none --peers 1 --lr 1e30"
    result = compare(changed(arms=("solo", wild, "average"), baseline="wild"))
    assert result["differences"] == []
    assert result["conclusion"] == (
        "wild failed under every seed, so there is nothing to compare with."
    )


def test_where_every_training_fails_the_command_fails(
    changed: Changed, capsys: pytest.CaptureFixture[str]
) -> None:
    options = changed()
    command = ["compare", "--data", options.data, "--out", str(options.folder), "--seeds", "1"]
    wild = [f"{name}=--rule none --peers 1 --lr 1e30" for name in ("wild", "wilder")]
    told = [*command, "--arms", *wild, "--executor", "local", "--epochs", "1", *NETWORK.split()]
    assert main(told) == 2
    shown = capsys.readouterr()
    assert shown.out.count("lower --lr") >= 2
    assert shown.err == ("peercollab: no training came to a model: see the lines below the table\n")


def test_a_folder_that_is_not_shared_is_told(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peercollab.comparison.work.write_outcome", lambda *_: None)
    monkeypatch.setattr("peercollab.comparison.work.SECONDS_TO_BE_SEEN", 0.1)
    with pytest.raises(PeercollabError, match="a folder that all nodes of the cluster share"):
        compare(changed())


def test_a_machine_that_does_not_see_the_folder_is_told_before_anything_is_trained(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(self: LocalPool, work: Callable[[Path], Any], path: Path) -> list[Any]:
        return [("here", work(path)), ("far-away", work(path / "not there"))]

    monkeypatch.setattr(LocalPool, "everywhere", elsewhere)
    options = changed()
    with pytest.raises(PeercollabError, match=r"far-away does not see .*share, under the same"):
        compare(options)
    assert not (options.folder / "runs").exists()
    assert not (options.folder / "token").exists()


def test_arms_that_were_compared_before_are_counted(changed: Changed) -> None:
    before = compare(changed(arms=("solo", "layer-wise", "average")))
    after = compare(changed(arms=("solo", "layer-wise")))
    named = {of["arm"]: of for of in before["differences"]}
    (of,) = after["differences"]
    assert of["arms"] == named["layer-wise"]["arms"] == 2
    for question in ("new_users", "new_trainings", "both"):
        p_value = of[question]["p_value"]
        assert p_value == named["layer-wise"][question]["p_value"]
        assert of[question]["p_adjusted"] == min(1.0, 2 * p_value)
    assert "among 2 arms" in of["verdict"]


def test_another_baseline_is_told(changed: Changed, capsys: pytest.CaptureFixture[str]) -> None:
    compare(changed())
    capsys.readouterr()
    told = "arms are compared with layer-wise, and were with solo before: p does not count"
    # It stays true, and was written down in another way before.
    for earlier in (True, False):
        if earlier:
            asked = json.loads((changed().folder / "asked.json").read_text())
            del asked["baselines"], asked["most_seeds"]
            (changed().folder / "asked.json").write_text(json.dumps(asked))
        result = compare(changed(baseline="layer-wise"))
        assert f"note: {told}" in capsys.readouterr().out
        assert [note.startswith(told) for note in result["notes"]] == [True]


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_an_arm_asks_for_no_help(word: str, changed: Changed) -> None:
    with pytest.raises(PeercollabError, match=r"arm x: for help, ask peercollab train --help"):
        changed(arms=("solo", f"x={word}"))


def test_a_failed_training_is_tried_again(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError("a broken disk")

    with monkeypatch.context() as broken:
        broken.setattr("peercollab.comparison.work.train", fail)
        result = compare(changed())
    assert failures_of(result)[0] == "solo, seed 5: failed: OSError: a broken disk"
    assert failures_of(compare(changed())) == []


def test_what_was_never_looked_at_is_not_noted(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("peercollab.comparison.work.train", stopped)
        with pytest.raises(KeyboardInterrupt):
            compare(changed(seeds=3, baseline="layer-wise"))
    assert compare(changed(seeds=1))["notes"] == []


@pytest.mark.parametrize("begun", [False, True])
def test_a_gpu_is_asked_to_forget_its_peak_only_if_it_was_used(
    begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(gpu: int) -> None:
        # As torch does.
        if not begun:
            raise RuntimeError("Invalid device argument: did you call init?")
        forgotten.append(gpu)

    forgotten: list[int] = []
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: begun)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", forget)
    forget_peaks_on(range(2))
    assert forgotten == ([0, 1] if begun else [])


def test_what_failed_under_a_seed_counts_as_what_was_looked_at(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_but_one(options: TrainOptions, **settings: Any) -> RunResult:
        if "average/seed-6" in str(options.folder):
            raise OSError("a broken disk")
        return train(options, **settings)

    wild = "wild=--rule none --peers 1 --lr 1e30"
    monkeypatch.setattr("peercollab.comparison.work.train", train_but_one)
    for arms in (("solo", wild, "layer-wise", "average"), ("solo", "layer-wise")):
        (of,) = compare(changed(arms=arms))["differences"]
        # What never came to a model is nothing that was looked at.
        assert (of["arm"], of["arms"]) == ("layer-wise", 2)


@pytest.mark.parametrize("option", ["text of --rule", "--lr", "--dropout-spread"])
def test_an_arm_whose_file_was_changed_is_refused(
    option: str, changed: Changed, tmp_path: Path
) -> None:
    is_rule = option == "text of --rule"
    file = tmp_path / ("own.py" if is_rule else "own.toml")
    text = {
        "text of --rule": "def mix(own, donor, share):\n    return own * 0.{} + donor * 0.{}\n",
        "--lr": "rule = 'average'\nlr = 0.0{}{}\n",
        "--dropout-spread": "rule = 'average'\ndropout-spread = 0.0{}{}\n",
    }[option]
    arm = f"mine=--rule {file}:mix" if is_rule else f"mine=--config {file}"
    file.write_text(text.format(5, 5))
    compare(changed(arms=("solo", arm), seeds=1))
    file.write_text(text.format(6, 6))
    with pytest.raises(PeercollabError) as refused:
        compare(changed(arms=("solo", arm)))
    assert f"mine is trained in {changed().folder} with another {option}" in str(refused.value)


def test_fewer_seeds_than_before_are_told(
    changed: Changed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(changed())["notes"] == []
    capsys.readouterr()
    for _ in range(2):
        compare(changed(seeds=1))
        assert "note: of 2 seeds only 1 are looked at: --seeds 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trials": 1}, "has --trials 0, which cannot become 1"),
        ({"training": {"epochs": 3}}, "has --epochs 2, which cannot become 3"),
        ({"model": {"hidden_size": 16}}, "has --hidden-size 8, which cannot become 16"),
        ({"execution": {"peers": 3}}, "has --peers 2, which cannot become 3"),
        ({"arms": ("solo", "mine=--lr 0.1")}, "'mine=--lr 0.1' was 'mine=--lr 0.01'"),
    ],
)
def test_another_comparison_is_refused_in_the_same_folder(
    changes: dict[str, Any], said: str, changed: Changed
) -> None:
    options = changed(arms=("solo", "mine=--lr 0.01"), seeds=1)
    compare(options)
    for name, change in changes.items():
        now = replace(getattr(options, name), **change) if isinstance(change, dict) else change
        options = replace(options, **{name: now})
    with pytest.raises(PeercollabError) as refused:
        compare(options)
    assert said in str(refused.value)


def test_other_data_is_refused_in_the_same_folder(changed: Changed, tmp_path: Path) -> None:
    options = changed(seeds=1)
    compare(options)
    other = tmp_path / "other.csv"
    other.write_text(Path(options.data).read_text() + "u0,i0,99\n")
    with pytest.raises(PeercollabError, match="on other data than"):
        compare(replace(options, data=str(other)))


def test_a_folder_of_something_else_is_left_alone(changed: Changed) -> None:
    options = changed()
    options.folder.mkdir()
    (options.folder / "mine.txt").write_text("precious")
    with pytest.raises(PeercollabError, match="is there already, and no comparison"):
        compare(options)
    assert [path.name for path in options.folder.iterdir()] == ["mine.txt"]


def test_a_second_driver_is_refused(changed: Changed) -> None:
    options = changed()
    options.folder.mkdir()
    with (
        Heartbeat(options.folder, lambda: ()),
        pytest.raises(PeercollabError, match="the run is going on"),
    ):
        compare(options)


def arguments_of(options: CompareOptions, executor: str) -> list[str]:
    words = f"--seeds 2 --epochs {EPOCHS} --patience 0 --executor {executor}"
    return [
        *("compare", "--data", options.data),
        *("--out", str(options.folder), "--arms", "solo", "best-of-n", "average"),
        *words.split(),
        *("--seed", "5"),
        *NETWORK.split(),
    ]


def result_in(folder: Path) -> dict[str, Any]:
    return without_costs(json.loads((folder / "comparison.json").read_text()))


@pytest.mark.parametrize(
    ("executor", "how"),
    [
        ("local", signal.SIGKILL),
        pytest.param("local", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_stopped_anywhere_and_started_again_it_comes_to_the_same(
    executor: str, how: signal.Signals, changed: Changed, tmp_path: Path
) -> None:
    options = changed()
    undisturbed = replace(options, out=tmp_path / "undisturbed")
    assert main(arguments_of(undisturbed, "local")) == 0
    for rounds in (3, 20):
        output = tmp_path / f"output-{rounds}.txt"
        driver = Watched(arguments_of(options, executor), output)
        try:
            come_so_far = partial(has_rounds, options.folder, rounds)
            wait_until(come_so_far, driver.process, output.read_text)
            driver.process.send_signal(how)
            code = driver.end()
        finally:
            driver.clean_up()
        if how == signal.SIGINT:
            assert code == 130, output.read_text()
            assert "comparison.json" in {path.name for path in options.folder.iterdir()}
    assert not has_rounds(options.folder, 6 * EPOCHS)
    again = Watched(arguments_of(options, executor), output)
    try:
        assert again.end() == 0, output.read_text()
    finally:
        again.clean_up()
    found, expected = result_in(options.folder), result_in(undisturbed.folder)
    assert found == expected


def has_rounds(folder: Path, least: int) -> bool:
    """Whether all runs together have come to so many rounds."""
    return sum(map(rounds_in, folder.glob("runs/*/seed-*/"))) >= least
