"""``./scripts/benchmark PART``: how fast it is here; ``--help`` names the parts."""

import sys
from collections.abc import Callable, Sequence

import tyro

from peercollab.errors import PeercollabError
from scripts.benchmarks import (
    catalogue,
    convergence,
    memory,
    planning,
    preparation,
    ranking,
    rounds,
    training,
)
from scripts.benchmarks.options import BenchmarkOptions
from scripts.benchmarks.report import Row, as_json, print_table, write_json
from scripts.benchmarks.setting import Setting
from scripts.benchmarks.sizes import FULL, Sizes

BAD_INPUT = 2
INTERRUPTED = 130

PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    training.PART: training.measure,
    ranking.PART: ranking.measure,
    rounds.PART: rounds.measure,
    preparation.PART: preparation.measure,
    memory.PART: memory.measure,
    catalogue.PART: catalogue.measure,
    planning.PART: planning.measure,
    convergence.PART: convergence.measure,
}

# It trains for an hour, and is for when training has changed.
NOT_IN_ALL = {convergence.PART}


def main(arguments: Sequence[str] | None = None, sizes: Sizes = FULL) -> int:
    """Measure what the command line asks for; the exit code."""
    try:
        options = tyro.cli(
            BenchmarkOptions,
            prog="./scripts/benchmark",
            args=arguments,
            config=(tyro.conf.DisallowNone,),
        )
        _run(options, options.setting(sizes))
    except PeercollabError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("benchmark: stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run(options: BenchmarkOptions, setting: Setting) -> None:
    rows: list[Row] = []
    others: dict[str, list[float]] = {}
    every = [part for part in PARTS if part not in NOT_IN_ALL]
    for part in every if options.part == "all" else [options.part]:
        setting.others.clear()
        rows += PARTS[part](setting)
        others[part] = list(setting.others)
        content = as_json(setting, rows, others)
        # After every part: what was measured is kept if a later one is stopped.
        if options.json is not None:
            write_json(options.json, content)
    print_table(content, rows)


if __name__ == "__main__":
    sys.exit(main())
