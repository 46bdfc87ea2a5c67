"""A comparison as a table of words and numbers: for terminal, report and documents alike."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from peercollab.comparison.entry import Entry, is_whole, whole_entries
from peercollab.results.display import duration, print_whole
from peercollab.results.metrics_table import MISSING

HEAD = (
    "arm",
    "seeds",
    "test NDCG@10",
    "validation",
    "difference",
    "95 % interval",
    "p",
    "inference",
    "rounds",
    "time",
    "core-h",
    "GPU-h",
    "memory",
    "GPU memory",
)
BASELINE = "baseline"

# Columns that give way, the first first, where a terminal is too narrow for all.
LEAST_WANTED = (
    "GPU memory",
    "memory",
    "rounds",
    "validation",
    "inference",
    "time",
    "seeds",
    "GPU-h",
    "core-h",
)


def table_of(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The head and a row for each arm; of costs, what one seed took on average.

    Columns that say nothing of any arm, such as those of GPUs where there are none, are left out.

    Parameters
    ----------
    result
        As in ``comparison.json``.
    """
    found = {of["arm"]: of for of in result["differences"]}
    rows = [_row(arm, found.get(arm["name"]), result) for arm in result["arms"]]
    columns = zip(HEAD, *rows, strict=True)
    told = [column for column in columns if any(cell != MISSING for cell in column[1:])]
    return list(zip(*told, strict=True))


def failures_of(result: Mapping[str, Any]) -> list[str]:
    """A line for every seed of an arm that came to no model."""
    return [
        f"{arm['name']}, seed {seed}: failed: {entry['error']}"
        for arm in result["arms"]
        for seed, entry in arm["seeds"].items()
        if entry and entry["error"]
    ]


def left_of(result: Mapping[str, Any]) -> list[str]:
    """A line for every arm with seeds that are not done yet."""
    left = {
        arm["name"]: [seed for seed, entry in arm["seeds"].items() if entry is None]
        for arm in result["arms"]
    }
    return [
        f"{name}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}: not done yet"
        for name, seeds in left.items()
        if seeds
    ]


def seeds_of(result: Mapping[str, Any]) -> list[str]:
    """A line if differences are not of all seeds that the rest of the table is of."""
    compared = {str(seed) for of in result["differences"] for seed in of["seeds"]}
    done = {
        seed for arm in result["arms"] for seed, entry in arm["seeds"].items() if is_whole(entry)
    }
    if not compared or compared == done:
        return []
    word = "seed" if len(compared) == 1 else "seeds"
    return [
        f"differences are of {word} {', '.join(sorted(compared, key=int))} alone: done of all arms "
        f"that were begun, and not failed for {result['baseline']}"
    ]


def cut_short(result: Mapping[str, Any]) -> list[str]:
    """A line for arms that all seeds keep from the last round: longer they might be better."""
    names = [
        arm["name"]
        for arm in result["arms"]
        if (entries := whole_entries(arm))
        and all(entry["selected"].get("round") == entry["rounds"] for entry in entries)
    ]
    if not names:
        return []
    return [f"best in the last of all rounds, so that more --epochs may help: {', '.join(names)}"]


def popularity_of(result: Mapping[str, Any]) -> list[str]:
    """A line that says what models are worth beside none; of an earlier version it is not known."""
    value = result.get("popularity")
    return (
        [] if value is None else [f"what is popular, recommended to everybody: {value:.4f} on test"]
    )


def remarks_on(result: Mapping[str, Any]) -> list[str]:
    """Lines that stand below the table: what it lacks, and what it does not say."""
    return [
        *failures_of(result),
        *left_of(result),
        *seeds_of(result),
        *cut_short(result),
        *popularity_of(result),
        # Of an earlier version none are known.
        *(f"note: {note}" for note in result.get("notes", ())),
    ]


def print_comparison(console: Console, result: Mapping[str, Any]) -> None:
    """Print the table, what may be said of each arm, and what to do."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    all_columns = table_of(result)
    head, *rows = _fitting(all_columns, console.width) if console.is_terminal else all_columns
    for at, name in enumerate(head):
        table.add_column(name, justify="right" if at else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_whole(console, table)
    if left_out := [name for name in all_columns[0] if name not in head]:
        those = ", ".join(left_out)
        console.out(f"no room here, but in the report: {those}", highlight=False)
    for line in remarks_on(result):
        console.out(line, highlight=False)
    for of in result["differences"]:
        console.out(of["verdict"], highlight=False)
    console.out(result["conclusion"], highlight=False)


def _fitting(rows: Sequence[tuple[str, ...]], width: int) -> list[tuple[str, ...]]:
    """As many columns as there is room for, and those that a claim needs in any case."""
    columns = list(zip(*rows, strict=True))
    for name in LEAST_WANTED:
        # Rich puts a blank on either side of a cell, and one between columns.
        if sum(3 + max(map(cell_len, column)) for column in columns) - 1 <= width:
            break
        # What it costs to serve is left out only where it is the same for all.
        columns = [
            column
            for column in columns
            if column[0] != name or (name == "inference" and len(set(column[1:])) > 1)
        ]
    return list(zip(*columns, strict=True))


def _row(
    arm: Mapping[str, Any], found: Mapping[str, Any] | None, result: Mapping[str, Any]
) -> tuple[str, ...]:
    entries = whole_entries(arm)
    metric = result["metric"]
    is_baseline = arm["name"] == result["baseline"]
    both = found["both"] if found else None
    return (
        arm["name"],
        f"{len(entries)}/{len(arm['seeds'])}",
        _spread([entry["test"][metric] for entry in entries]),
        _spread([entry["validation"][metric] for entry in entries]),
        BASELINE if is_baseline else f"{found['difference']:+.4f}" if found else MISSING,
        f"{both['interval']['low']:+.4f} to {both['interval']['high']:+.4f}" if both else MISSING,
        _p(found["p_value"]) if found and both else MISSING,
        f"{arm['inference_cost']} x",
        *_costs(entries),
    )


def _costs(entries: Sequence[Entry]) -> tuple[str, ...]:
    if not entries:
        return (MISSING,) * 6
    gpu_hours = mean(entry["gpu_seconds"] for entry in entries) / 3600
    return (
        f"{mean(entry['rounds'] for entry in entries):.0f}",
        duration(mean(entry["seconds"] for entry in entries)),
        f"{mean(entry['core_seconds'] for entry in entries) / 3600:.2f}",
        f"{gpu_hours:.2f}" if gpu_hours else MISSING,
        _most(entries, "peak_bytes"),
        _most(entries, "gpu_peak_bytes"),
    )


def _most(entries: Sequence[Entry], memory: str) -> str:
    peaks = [entry[memory] for entry in entries if entry[memory]]
    return f"{max(peaks) / 1e6:,.0f} MB" if peaks else MISSING


def _spread(values: Sequence[float]) -> str:
    if not values:
        return MISSING
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def _p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"
