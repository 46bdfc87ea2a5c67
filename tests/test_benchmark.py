"""Every part of ./scripts/benchmark at a tiny size: rows are whole, and the tools count rightly."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peercollab.models.sasrec import SASRecOptions
from peercollab.training.precision import Numbers, choose
from scripts.benchmarks import convergence, measure, memory, planning, training
from scripts.benchmarks.__main__ import PARTS, main
from scripts.benchmarks.limits import HeadProducts
from scripts.benchmarks.measure import added_memory, in_turns, ratios, spread
from scripts.benchmarks.report import Bar, Row, as_json
from scripts.benchmarks.setting import REAL_DATA, Setting
from scripts.benchmarks.sizes import FULL, TINY
from scripts.benchmarks.synthetic import synthetic_histories
from scripts.benchmarks.training import Steps
from tests.reference.plain_model import PlainSASRec
from tests.reference.plain_training import PlainTrainer

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


@pytest.fixture
def setting() -> Setting:
    return Setting(runs=1, threads=1, device=CPU, data=None, sizes=TINY, say=lambda line: None)


def require_whole(rows: list[dict[str, Any]], part: str) -> None:
    """Every figure is a number above 0, and says what it is."""
    assert rows
    for row in rows:
        assert row["part"] == part
        assert row["what"]
        assert row["unit"]
        for figure in filter(None, (row["value"], row["ratio"])):
            numbers = [figure["median"], figure["low"], figure["high"], *figure["values"]]
            assert all(math.isfinite(number) and number > 0 for number in numbers), row
        assert bool(row["against"]) == (row["ratio"] is not None)
        assert (row["held"] is None) == (row["bar"] is None)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(part, marks=[pytest.mark.slow] if part in ("catalogue", "memory") else [])
        for part in sorted(set(PARTS) - {"round"})
    ],
)
def test_every_part_gives_whole_rows(part: str, setting: Setting) -> None:
    require_whole([row.as_json() for row in PARTS[part](setting)], part)


@pytest.mark.slow
def test_rounds_over_ray_give_whole_rows(tmp_path: Path) -> None:
    command = [
        "import sys",
        "from scripts.benchmarks.__main__ import main",
        "from scripts.benchmarks.sizes import TINY",
        "sys.exit(main(sys.argv[1:], TINY))",
    ]
    out = tmp_path / "round.json"
    environment = {name: value for name, value in os.environ.items() if name != REAL_DATA}
    subprocess.run(
        [sys.executable, "-c", "; ".join(command), "round", "--runs", "1", "--json", str(out)],
        check=True,
        cwd=ROOT,
        env=environment,
    )
    rows = json.loads(out.read_text())["rows"]
    require_whole(rows, "round")
    assert sum(row["bar"] is not None for row in rows) == 4


def test_plans_have_a_bar_where_they_are_linear_in_peers(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "RUNS", 1)
    sizes = replace(TINY, planning=((8, 200), (64, 200)))
    rows = planning.measure(replace(setting, sizes=sizes))
    with_bar = [row.what.rpartition(" ")[2] for row in rows if row.bar is not None]
    assert with_bar == ["ring", "best", "random"]
    assert all("64 peers" in row.what for row in rows if row.bar is not None)
    assert {row.bar for row in rows} == {None, Bar("at most", 50)}


def test_the_command_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures" / "planning.json"
    assert main(["planning", "--runs", "2", "--threads", "1", "--json", str(out)], TINY) == 0
    printed = capsys.readouterr().out
    content = json.loads(out.read_text())
    require_whole(content["rows"], "planning")
    assert content["setting"]["threads"] == 1
    numbers = "fp32 (bf16 was measured slower on a CPU)"
    assert content["setting"]["numbers"] == numbers
    assert f"numbers: {numbers}" in printed
    assert content["machine"]["packages"]["torch"]
    assert len(content["rows"][0]["value"]["values"]) == 2
    assert content["rows"][0]["unit"] in printed


def test_a_profile_is_a_trace_and_a_table(tmp_path: Path, setting: Setting) -> None:
    PARTS["rank"](replace(setting, profile=tmp_path))
    for name in ("ranking", "top-k"):
        assert json.loads((tmp_path / f"{name}-trace.json").read_text())["traceEvents"]
        assert "aten::" in (tmp_path / f"{name}-operators.txt").read_text()


def test_a_wrong_option_is_an_error_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--runs", "0"]) == 2
    assert capsys.readouterr().err == "benchmark: --runs is 0: give 1 or more\n"


@pytest.mark.parametrize(
    ("part", "option"),
    [
        ("round", "--profile folder"),
        ("memory", "--data log.csv"),
        ("prepare", "--data log.csv"),
        ("catalogue", "--data log.csv"),
        ("planning", "--data log.csv"),
        ("train", "--interactions 1000"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    part: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([part, *option.split()]) == 2
    name = option.split()[0]
    assert f"benchmark: {name} has no effect on {part}: leave it out" in capsys.readouterr().err


def test_quartiles_and_ratios() -> None:
    of = spread([4.0, 2.0, 3.0])
    assert (of.low, of.median, of.high) == (2.5, 3.0, 3.5)
    assert ratios([4.0, 9.0, 1.0], [2.0, 3.0, 4.0]).values == (2.0, 3.0, 0.25)


@pytest.mark.parametrize(
    ("bar", "ratio", "held"),
    [
        (Bar("at least", 2), None, True),
        (Bar("at most", 2), None, False),
        (Bar("at least", 2), 1.0, False),
        (None, 1.0, None),
    ],
)
def test_a_bar_is_for_the_ratio_if_there_is_one(
    bar: Bar | None, ratio: float | None, held: bool | None
) -> None:
    compared = None if ratio is None else spread([ratio])
    assert Row("part", "what", "s", spread([3.0]), compared, "it", bar).is_held is held


def test_turns_go_back_and_forth(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "Others", lambda: Watched([]))
    called: list[str] = []
    actions: dict[str, Callable[[], float]] = {
        "a": lambda: called.append("a") or len(called),  # type: ignore[func-returns-value]
        "b": lambda: called.append("b") or len(called),  # type: ignore[func-returns-value]
    }
    taken = in_turns(setting, actions, turns=3)
    assert "".join(called) == "abbaab"
    assert taken == {"a": [1, 4, 5], "b": [2, 3, 6]}


class Watched:
    """Others that were busy as was written down, turn by turn."""

    def __init__(self, busy: list[float]) -> None:
        self._busy = iter([value for turn in busy for value in (0.0, turn)])

    def cores(self) -> float:
        return next(self._busy, 0.0)


@pytest.mark.parametrize(
    ("busy", "counted"),
    [([0.0, 0.0], [1, 2]), ([0.9, 0.0, 0.0], [2, 3]), ([0.9, 0.9, 0.9, 0.9], [3, 4])],
)
def test_a_disturbed_turn_is_done_again_but_not_for_ever(
    busy: list[float], counted: list[int], setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "Others", lambda: Watched(busy))
    turns = iter(range(1, 10))
    taken = in_turns(setting, {"it": lambda: next(turns)}, turns=2)
    assert taken["it"] == counted
    assert setting.others == busy[-2:]
    assert as_json(setting, [], {"it": setting.others})["cores_of_others"] == {"it": busy[-2:]}


def test_added_memory_counts_what_an_action_holds_at_most() -> None:
    n_bytes = 300 << 20
    assert added_memory(lambda: np.ones(n_bytes, np.uint8), CPU) > 0.95 * n_bytes


@pytest.mark.parametrize("numbers", [choose("fp32", "cpu"), choose("bf16", "cpu")], ids=str)
def test_products_of_matrices_are_those_of_the_head(numbers: Numbers) -> None:
    products = HeadProducts(8, 50, CPU, numbers, 0.01)
    assert 0 < products.rate() < 1e5
    hidden_CD, table_VD = products._hidden_CD, products._table_VD
    assert hidden_CD.dtype == table_VD.dtype == (numbers.products or torch.float32)
    torch.testing.assert_close(products._logits_CV[:64], (hidden_CD @ table_VD.T)[:64])


@pytest.mark.parametrize(
    "action",
    [
        lambda setting: training._plain(setting, PlainSASRec(50, 8, max_length=10))(),
        lambda setting: memory._plain(50, 4, 10, 8, CPU, 1),
        lambda setting: convergence._plain(setting, seed=1),
    ],
    ids=["train", "memory", "convergence"],
)
def test_the_plain_reference_is_trained_in_the_numbers_of_training(
    action: Callable[[Setting], float], setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    train = PlainTrainer.train

    def noted(self: PlainTrainer, steps: int) -> int:
        seen.add(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return train(self, steps)

    monkeypatch.setattr(PlainTrainer, "train", noted)
    monkeypatch.setattr("scripts.benchmarks.setting.choose", lambda *_: choose("bf16", "cpu"))
    assert action(setting) >= 0
    assert seen == {torch.bfloat16}


def test_steps_go_on_through_epochs_and_count_positions(setting: Setting) -> None:
    steps = Steps(setting.histories, SASRecOptions(hidden_size=8, max_length=10), CPU)
    n_steps = steps.trainer.steps_per_epoch
    n_targets = int(np.maximum(setting.histories.lengths - 3, 0).sum())
    assert steps.run(10_000).positions == n_targets
    assert sum(steps.run(1).positions for _ in range(n_steps)) == n_targets


@pytest.mark.parametrize(("users", "items", "interactions"), [(60, 50, 3_000), (7, 30, 31)])
def test_a_synthetic_log_has_the_size_asked_for(users: int, items: int, interactions: int) -> None:
    log = synthetic_histories(users, items, interactions)
    assert (log.n_users, log.n_items, len(log.items)) == (users, items, interactions)
    assert log.offsets[-1] == interactions
    assert log.lengths.min() >= 1
    assert len(np.unique(log.items)) == items


def test_a_smaller_large_log_has_fewer_users_and_growth() -> None:
    sizes = FULL.with_large(1_000_000)
    assert (sizes.large_interactions, sizes.large_users) == (1_000_000, 6_925)
    assert sizes.growth == (100_000,)
