"""The table of a comparison, on terminals of any width, and the lines below it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from peercollab.comparison.table import HEAD, popularity_of, print_comparison, table_of

RECORD = Path(__file__).parents[2] / "docs" / "evidence" / "ml-1m-prefix.json"


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


def printed(result: dict[str, Any], width: int, *, is_terminal: bool) -> list[str]:
    file = io.StringIO()
    print_comparison(
        Console(file=file, width=width, force_terminal=is_terminal, color_system=None), result
    )
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 110, 160])
def test_a_terminal_gets_the_columns_that_it_has_room_for(
    result: dict[str, Any], width: int
) -> None:
    lines = printed(result, width, is_terminal=True)
    n_arms = len(result["arms"])
    table, below = lines[: n_arms + 2], lines[n_arms + 2 :]
    assert all(len(line) <= width for line in table)
    head = table_of(result)[0]
    missing = [name for name in head if name not in table[0]]
    assert set(missing) & {"test NDCG@10", "difference", "95 % interval", "p"} == set()
    assert bool(missing) == (width < 160)
    if missing:
        assert below[0] == f"no room here, but in the report: {', '.join(missing)}"


def test_as_many_columns_as_fit_are_kept(result: dict[str, Any]) -> None:
    whole = max(map(len, printed(result, 999, is_terminal=True)[: len(result["arms"]) + 2]))
    assert "memory" in printed(result, whole, is_terminal=True)[0]
    assert "memory" not in printed(result, whole - 1, is_terminal=True)[0]


def test_what_it_costs_to_serve_stays_where_it_differs(result: dict[str, Any]) -> None:
    assert "inference" not in printed(result, 80, is_terminal=True)[0]
    first, *others = result["arms"]
    arms = [first | {"inference_cost": 2}, *others]
    assert "inference" in printed(result | {"arms": arms}, 80, is_terminal=True)[0]


def test_what_is_no_terminal_gets_all_columns(result: dict[str, Any]) -> None:
    lines = printed(result, 20, is_terminal=False)
    assert all(name in lines[0] for name in table_of(result)[0])
    assert not any(line.startswith("no room") for line in lines)


def test_popularity_is_told_where_it_is_known(result: dict[str, Any]) -> None:
    assert popularity_of(result | {"popularity": 0.01234}) == [
        "what is popular, recommended to everybody: 0.0123 on test"
    ]
    assert popularity_of(result | {"popularity": None}) == []


def test_columns_that_say_nothing_are_left_out(result: dict[str, Any]) -> None:
    head = table_of(result)[0]
    assert [name for name in HEAD if name not in head] == ["GPU-h", "GPU memory"]
