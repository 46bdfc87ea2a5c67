"""How long it takes from a large Parquet file to training windows, and how costs grow with data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from peercollab.data.layout import ReadOptions
from peercollab.data.prepare import PrepareOptions, prepare
from peercollab.data.read import read_interactions
from peercollab.data.split import HOLD_OUTS, queries, training_spans, windows
from peercollab.models.sasrec import SASRecOptions
from scripts.benchmarks.measure import (
    MEGA,
    added_memory,
    in_fresh_process,
    in_turns,
    ratios,
    spread,
    undisturbed,
)
from scripts.benchmarks.report import Bar, Row
from scripts.benchmarks.setting import Setting
from scripts.benchmarks.synthetic import synthetic_histories
from scripts.benchmarks.training import Steps

PART = "prepare"
PREPARED_IN = Bar("at most", 20)
# Small catalogues for small logs: with fewer interactions an item would be dropped.
INTERACTIONS_AN_ITEM = 50
FIRST_TIME, LAST_TIME = 789_652_009, 1_427_784_002
CPU = torch.device("cpu")


@dataclass
class Preparation:
    """What one preparation took: seconds of each phase, and the bytes it added at its peak."""

    seconds: dict[str, float] = field(default_factory=dict)
    memory: float = 0.0

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def described(self) -> str:
        phases = ", ".join(f"{name} {taken:.2f}" for name, taken in self.seconds.items())
        return f"{phases} s, {self.memory / MEGA:,.0f} MB"


def measure(setting: Setting) -> list[Row]:
    """Rows on the large log, and on the growth of preparation and training."""
    with TemporaryDirectory() as folder:
        return [*_preparing(setting, Path(folder)), *_training(setting)]


def _preparing(setting: Setting, folder: Path) -> list[Row]:
    sizes = setting.sizes
    large = sizes.large_interactions
    done: dict[int, list[Preparation]] = {}
    for interactions in (*sizes.growth, large):
        users = max(2, round(sizes.large_users * interactions / large))
        items = min(sizes.large_items, interactions // INTERACTIONS_AN_ITEM)
        path = folder / f"{interactions}.parquet"
        setting.say(
            f"preparing {interactions:,} interactions of {users:,} users and {items:,} items"
        )
        write_log(path, users, items, interactions)
        done[interactions] = undisturbed(
            setting,
            partial(in_fresh_process, prepared, path, sizes.max_length, setting.threads),
            Preparation.described,
        )
    what = f"preparing {large:,} interactions from Parquet"
    totals = [run.total for run in done[large]]
    rows = [Row(PART, what, "s", spread(totals), bar=PREPARED_IN)]
    rows += [
        Row(PART, f"{what}: {phase}", "s", spread([run.seconds[phase] for run in done[large]]))
        for phase in done[large][0].seconds
    ]
    peak = spread([run.memory / MEGA for run in done[large]])
    rows.append(Row(PART, f"{what}: memory added at its peak", "MB", peak))
    return rows + _growth(
        "preparing, each",
        {size: [1e6 * run.total / size for run in runs] for size, runs in done.items()},
    )


def _training(setting: Setting) -> list[Row]:
    """Training on logs of different length and the same catalogue."""
    sizes = setting.sizes
    setting.say("training on logs of growing length: microseconds a position")
    at_size = {}
    for interactions in (*sizes.growth, sizes.large_interactions):
        users = max(2, round(sizes.users * interactions / sizes.interactions))
        histories = synthetic_histories(users, sizes.items, interactions)
        steps = Steps(
            histories,
            SASRecOptions(hidden_size=sizes.hidden_sizes[0], max_length=sizes.max_length),
            setting.device,
        )
        steps.run(2)
        at_size[interactions] = steps
    taken = in_turns(
        setting,
        {
            f"{interactions:,}": lambda steps=steps: 1e6 / steps.run(sizes.steps).rate  # type: ignore[misc]
            for interactions, steps in at_size.items()
        },
    )
    return _growth(
        "training, each position in a log",
        dict(zip(at_size, taken.values(), strict=True)),
    )


def _growth(what: str, taken: dict[int, list[float]]) -> list[Row]:
    """A row a size of log; each is compared with the smallest."""
    smallest = min(taken)
    return [
        Row(
            PART,
            f"{what} of {size:,} interactions",
            "us",
            spread(values),
            None if size == smallest else ratios(values, taken[smallest]),
            "" if size == smallest else f"those of {smallest:,}",
        )
        for size, values in taken.items()
    ]


def write_log(path: Path, n_users: int, n_items: int, interactions: int) -> None:
    """A log in one Parquet file, by user, and within a user in no order of time."""
    histories = synthetic_histories(n_users, n_items, interactions)
    times = np.random.default_rng(2).integers(FIRST_TIME, LAST_TIME, interactions)
    columns = {
        "user": np.repeat(np.arange(1, n_users + 1), histories.lengths),
        "item": histories.items.astype(np.int64) + 1,
        "timestamp": times,
    }
    pq.write_table(pa.table(columns), path)


def prepared(path: Path, length: int, threads: int) -> Preparation:
    """Read, filter, order, split and cut into windows, and say what it took."""
    torch.set_num_threads(threads)
    done = Preparation()

    @contextmanager
    def timed(phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        done.seconds[phase] = time.perf_counter() - started

    def work() -> None:
        with timed("read"):
            interactions = read_interactions(path, ReadOptions())
        with timed("filter and order"):
            data, _ = prepare(interactions, PrepareOptions())
        with timed("split and cut"):
            windows(training_spans(data.histories), length)
            for hold_out in HOLD_OUTS:
                queries(data.histories, hold_out)

    done.memory = added_memory(work, CPU)
    return done
