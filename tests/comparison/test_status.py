"""How a comparison stands is told from its folder alone."""

import json
import shlex
from collections.abc import Callable
from html import escape
from typing import Any

import pytest

from peercollab.cli import main
from peercollab.comparison.compare import compare
from peercollab.comparison.display import Done
from peercollab.comparison.options import CompareOptions
from peercollab.comparison.status import comparison_in_words
from peercollab.comparison.table import cut_short, table_of
from peercollab.errors import PeercollabError
from peercollab.results.heartbeat import Heartbeat
from peercollab.training.options import TrainingOptions

Changed = Callable[..., CompareOptions]


def test_what_is_done_and_what_failed_is_told(
    changed: Changed, capsys: pytest.CaptureFixture[str]
) -> None:
    options = changed(arms=("solo", "wild=--rule none --peers 1 --lr 1e30"), seeds=1)
    compare(options)
    capsys.readouterr()
    assert main(["status", str(options.folder)]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == f"{options.folder}: a comparison, not going on; 1 training done, 1 failed"
    assert second.startswith("wild, seed 5 failed: ")
    assert last.startswith(f"next: peercollab report {options.folder}")


def test_where_its_runs_are_is_told_while_it_goes_on(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peercollab.rounds import Rounds

    options, told = changed(arms=("solo", "average"), seeds=1), []
    run_round = Rounds._run_round

    def watched(self: Rounds, *arguments: Any) -> None:
        run_round(self, *arguments)
        self._heartbeat.beat()
        told.append(comparison_in_words(options.folder))

    monkeypatch.setattr(Rounds, "_run_round", watched)
    compare(options)
    assert "going on (process " in told[0]
    assert told[0].splitlines()[0].endswith("; 0 trainings done")
    assert told[0].splitlines()[1] == "0 of 2 runs done"
    assert told[-1].splitlines()[1] == "1 of 2 runs done"
    assert "solo, seed 5: round 1, " in told[0]
    assert "average, seed 5: round 2, " in told[-1]
    assert told[-1].endswith("next: wait")


def test_what_failed_is_no_run_that_is_done() -> None:
    assert str(Done(3, all=9, failed=2)) == "3 of 9 runs done, 2 failed"
    # As it was beaten before failures were told apart.
    assert str(Done(**{"done": 3, "all": 9})) == "3 of 9 runs done"


def test_it_has_ended_though_an_arm_that_is_left_out_failed(changed: Changed) -> None:
    compare(changed(arms=("solo", "wild=--rule none --peers 1 --lr 1e30"), seeds=1))
    compare(changed(seeds=1))
    told = comparison_in_words(changed().folder).splitlines()
    assert told[0].endswith("a comparison, ended; 2 trainings done, 1 failed")
    assert told[-1].startswith("next: peercollab recommend")


def test_what_is_not_done_of_one_that_was_stopped_is_told(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    options = changed(seeds=1)
    compare(options)
    monkeypatch.setattr("peercollab.comparison.work.train", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(changed(seeds=3))
    told = comparison_in_words(options.folder).splitlines()
    assert told[0].endswith("not going on; 2 trainings done")
    assert told[1:3] == [f"{arm}, seeds 6, 7: not done yet" for arm in ("solo", "layer-wise")]


def test_arms_that_all_seeds_keep_from_the_last_round_are_named() -> None:
    def arm(name: str, *kept: int) -> dict[str, Any]:
        seeds: dict[str, Any] = {
            str(seed): {"error": None, "rounds": 9, "selected": {"round": round}}
            for seed, round in enumerate(kept)
        }
        return {"name": name, "seeds": {**seeds, "7": None, "8": {"error": "lower --lr"}}}

    rising, one_of_two, soup = arm("rising", 9, 9), arm("one", 9, 5), arm("soup", 9)
    soup["seeds"]["0"]["selected"] = {"ending": "uniform-soup", "members": [1, 2]}
    assert cut_short({"arms": [rising, one_of_two, soup, arm("none")]}) == [
        "best in the last of all rounds, so that more --epochs may help: rising"
    ]
    assert cut_short({"arms": [one_of_two]}) == []


def test_one_that_has_ended_says_so(changed: Changed, capsys: pytest.CaptureFixture[str]) -> None:
    options = changed(seeds=1)
    compare(options)
    said, what_next = comparison_in_words(options.folder).splitlines()
    assert said == f"{options.folder}: a comparison, ended; 2 trainings done"
    recommend, _, report = what_next.removeprefix("next: ").partition("  or  ")
    assert report == f"peercollab report {options.folder}"
    assert str(options.folder / "runs" / "solo" / "seed-5") in recommend
    assert main(shlex.split(recommend)[1:]) == 0
    for not_of_a_comparison in (
        ["recommend", str(options.folder), "--histories", options.data],
        ["status", str(options.folder), "--json"],
    ):
        assert main(not_of_a_comparison) == 2
        assert f"{options.folder}/runs/layer-wise/seed-5" in capsys.readouterr().err
    # A soup has come to one model, which is served as that of a run is.
    compare(changed(seeds=1, arms=("solo", "soup")))
    capsys.readouterr()
    histories = options.folder.parent / "histories.txt"
    histories.write_text("user,item,time\nme,i1,1\nme,i2,2\n")
    soup = str(options.folder / "endings" / "soup" / "seed-5")
    assert main(["recommend", soup, "--histories", str(histories), "--k", "2"]) == 0
    assert capsys.readouterr().out.count("\n") >= 2
    assert main(["status", soup]) == 0
    told = capsys.readouterr().out
    assert "best validation ndcg@10 " in told
    named = f"--histories {options.data} --k 10"
    assert told.endswith(f"next: peercollab recommend {soup} {named}\n")


def test_what_is_next_of_a_soup_on_demo_data_can_be_done(
    changed: Changed, capsys: pytest.CaptureFixture[str]
) -> None:
    # Enough to be above popularity: otherwise nothing is said to be the model to take.
    training = TrainingOptions(epochs=2, batch_size=32, lr=0.01, seed=5)
    options = changed(data="demo", arms=("soup", "layer-wise"), seeds=1, training=training)
    compare(options)
    capsys.readouterr()
    assert main(["status", str(options.folder)]) == 0
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    recommend = told.removeprefix("next: ").partition("  or  ")[0]
    assert f"{options.folder}/endings/soup/seed-5" in recommend
    assert main(shlex.split(recommend)[1:]) == 0


def test_one_that_has_not_come_to_anything_says_so(
    changed: Changed, capsys: pytest.CaptureFixture[str]
) -> None:
    options = changed(seeds=1)
    compare(options)
    (options.folder / "comparison.json").unlink()
    assert comparison_in_words(options.folder).endswith(
        "the same peercollab compare goes on with it"
    )
    assert main(["report", str(options.folder)]) == 2
    assert "comparison.json is not there yet" in capsys.readouterr().err
    # As an earlier version wrote it.
    (options.folder / "comparison.json").write_text('{"arms": [{"name": "solo"}]}')
    assert main(["report", str(options.folder)]) == 2
    assert "is of another version of peercollab, or damaged" in capsys.readouterr().err
    with pytest.raises(PeercollabError, match=r"writes comparison\.json anew"):
        comparison_in_words(options.folder)
    outcome = options.folder / "runs" / "solo" / "seed-5.outcome.json"
    outcome.write_text("{")
    with pytest.raises(PeercollabError, match=r"seed-5.outcome.json is damaged"):
        comparison_in_words(options.folder)


def test_its_report_can_be_written_anew(
    changed: Changed, capsys: pytest.CaptureFixture[str]
) -> None:
    options = changed(seeds=2, arms=("solo", "average", "wild=--rule none --peers 1 --lr 1e30"))
    result = compare(options)
    assert main(["report", str(options.folder)]) == 0
    page = (options.folder / "report.html").read_text(encoding="utf-8")
    assert result["conclusion"] in page
    assert "wild, seed 5: failed: " in page
    assert page.count("<img") == 2  # What differs, and how alike the peers of average were.
    content = json.loads((options.folder / "comparison.json").read_text())
    cells = [cell for row in table_of(content) for cell in row]
    assert all(escape(cell) in page for cell in cells)
    assert f"{content['differences'][0]['arm_mean']:.4f}" in " ".join(cells)
    with Heartbeat(options.folder, list):
        assert main(["report", str(options.folder)]) == 0


def test_where_a_run_is_wanted_a_comparison_is_told_with_what_it_has(
    changed: Changed, capsys: pytest.CaptureFixture[str]
) -> None:
    options = changed(seeds=1)
    compare(options)
    folder = str(options.folder)
    one = f"name one of its runs, such as {options.folder}/runs/layer-wise/seed-5"
    for command, instead in (
        (["status", folder, "--json"], "which has comparison.json in place of --json"),
        (["recommend", folder, "--histories", "x"], "which report and status tell of"),
    ):
        assert main(command) == 2
        assert f"{folder} is a comparison, {instead}: {one}" in capsys.readouterr().err
