"""What was measured, as a table to read and as JSON to keep."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from peercollab.machine import environment
from scripts.benchmarks.measure import BUSY, Spread
from scripts.benchmarks.setting import Setting


@dataclass(frozen=True)
class Bar:
    """What a figure must reach: at least this, or at most."""

    direction: Literal["at least", "at most"]
    value: float

    def is_held(self, figure: float) -> bool:
        return figure >= self.value if self.direction == "at least" else figure <= self.value


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes
    ----------
    part
        The part of the benchmark.
    what, unit
        What it is; a value of it is in this unit.
    value
        The figure itself.
    ratio, against
        The figure divided by that of something else, measured in turns with it, and what that is.
    bar
        What is asked of the ratio, or of the value where there is no ratio.
    """

    part: str
    what: str
    unit: str
    value: Spread
    ratio: Spread | None = None
    against: str = ""
    bar: Bar | None = None

    @property
    def is_held(self) -> bool | None:
        """Whether the bar is reached by the median; None where there is no bar."""
        return None if self.bar is None else self.bar.is_held((self.ratio or self.value).median)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"held": self.is_held}


def as_json(
    setting: Setting, rows: Sequence[Row], others: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Everything: when, how and where it was measured, and what came out.

    Parameters
    ----------
    setting, rows
        How it was measured, and what was.
    others
        Of each part, the cores that other work kept busy in each turn.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["./scripts/benchmark", *sys.argv[1:]]),
        "setting": setting.as_json(),
        "machine": environment(),
        "cores_of_others": {part: list(cores) for part, cores in others.items()},
        "rows": [row.as_json() for row in rows],
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the whole file, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def print_table(content: dict[str, Any], rows: Sequence[Row]) -> None:
    """A row a figure: median, with quartiles in brackets."""
    machine, setting = content["machine"], content["setting"]
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(
        f"{content['date']}, peercollab {machine['peercollab']} ({machine['commit']}), "
        f"Python {machine['python']}, torch {machine['packages']['torch']}, "
        f"Ray {machine['packages']['ray']}",
        f"{setting['threads']} threads of {machine['usable_cores']} cores, {setting['processor']}, "
        f"{setting['device']}; numbers: {setting['numbers']}",
        f"data: {setting['data']}; {setting['runs']} runs",
        sep="\n",
        highlight=False,
    )
    table = Table("part", "what", "median (quartiles)", "unit", "ratio (quartiles)", "bar", "")
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar.direction} {row.bar.value:,g}"
        ratio = "" if row.ratio is None else f"{_words(row.ratio)} of {row.against}"
        held = {None: "", True: "held", False: "missed"}[row.is_held]
        table.add_row(row.part, row.what, _words(row.value), row.unit, ratio, bar, held)
    console.print(table)
    for part, cores in content["cores_of_others"].items():
        disturbed = sum(busy > BUSY for busy in cores)
        if disturbed:
            console.print(
                f"{part}: {disturbed} of {len(cores)} turns were disturbed by other work on the "
                f"machine, which kept up to {max(cores):.2g} cores busy: do not trust these figures"
            )


def _words(value: Spread) -> str:
    if len(value.values) == 1:
        return _number(value.median)
    return f"{_number(value.median)} ({_number(value.low)} to {_number(value.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
