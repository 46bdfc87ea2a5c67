"""Commands that are shown, to be copied."""

import shlex
from pathlib import Path

from peercollab.data.demo import DEMO_FILE
from peercollab.results.run_folder import recommend_command


def test_the_data_of_a_run_are_recommended_to(tmp_path: Path) -> None:
    log = tmp_path / "a log.csv"
    log.touch()
    shown = recommend_command(tmp_path, {"data": str(log), "model": {"model": "own.py:Net"}})
    assert shlex.split(shown) == [
        *("peercollab", "recommend", str(tmp_path), "--histories", str(log)),
        *("--model", "own.py:Net", "--k", "10"),
    ]


def test_demo_data_lie_in_the_run(tmp_path: Path) -> None:
    (tmp_path / DEMO_FILE).touch()
    shown = recommend_command(tmp_path, {"data": "demo"})
    assert f"--histories {tmp_path / DEMO_FILE} --k 10" in shown


def test_data_that_are_not_to_be_seen_from_here_have_to_be_named(tmp_path: Path) -> None:
    for data in (str(tmp_path / "interactions.parquet"), "demo"):
        assert "--histories YOUR-LOG --k 10" in recommend_command(tmp_path, {"data": data})
