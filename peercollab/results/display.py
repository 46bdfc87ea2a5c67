"""What a person sees of a run: a live table on a terminal, a plain line per peer elsewhere."""

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from peercollab.results.metrics_table import MISSING, metrics_table
from peercollab.results.shares import mean_shares
from peercollab.training.metrics import SELECTION_METRIC

# The live table's columns with their least width, so that they stay where they are.
COLUMNS = {
    "peer": 4,
    "round": 5,
    "epoch": 5,
    "loss": 6,
    SELECTION_METRIC: 7,
    "best": 6,
    "received": 12,
    "now": 8,
}
BAR_WIDTH = 20
MOST_DONORS = 2
# More than any table here needs: its own width is measured within it.
WIDE = 1000


def say(line: str) -> None:
    """A line about the run, at once also where output is no terminal."""
    print(line, flush=True)


def duration(seconds: float) -> str:
    """Hours, minutes and whole seconds."""
    return str(timedelta(seconds=round(seconds)))


class Progress(Protocol):
    """Where a peer is: `step` of `steps` in a round's epoch, the mean loss so far (or nan)."""

    @property
    def peer(self) -> int: ...
    @property
    def round(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def phase(self) -> str: ...


class RunDisplay:
    """Shows a run while it goes on; a context, so that the terminal is given back.

    On a terminal it is a table with a row a peer, drawn anew a few times a second. Elsewhere
    every round leaves one line a peer, without control characters.

    Parameters
    ----------
    rounds
        Rounds at most.
    console
        Where to show it; standard output by default.
    """

    def __init__(self, rounds: int, console: Console | None = None) -> None:
        self._rounds = rounds
        self._console = console or standard_output()
        self._started = time.monotonic()
        # The table is drawn in a thread of its own: these are replaced, never changed in place.
        self._progress: Sequence[Progress] = ()
        self._record: Mapping[str, Any] | None = None
        self._best: Mapping[int, float] = {}
        self._live = Live(get_renderable=self._view, console=self._console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def watch(self, progress: Sequence[Progress]) -> None:
        """Take in where every peer is."""
        self._progress = progress

    def stand(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Show how things stand after so many rounds: of a run that goes on, or went back."""
        if records and records[-1] is self._record:
            return
        best: Mapping[int, float] = {}
        for record in records:
            best = _best_with(best, record)
        self._best, self._record = best, records[-1] if records else None

    def record(self, record: Mapping[str, Any]) -> None:
        """Take in the record of a round that has ended, as it stands in ``rounds.jsonl``."""
        self._best, self._record = _best_with(self._best, record), record
        if not self._console.is_interactive:
            for report in record["peers"]:
                self.say(self._line(record, report))
        for failure in record["failures"]:
            self.say(
                f"peer {failure['peer']} sat round {record['round']} out: {failure['reason']} "
                f"(noticed by step {failure['step']})"
            )

    def say(self, text: str) -> None:
        """Print a line, above the table where there is one."""
        self._console.out(_writable(self._console, text), highlight=False)

    def _line(self, record: Mapping[str, Any], report: Mapping[str, Any]) -> str:
        peer = report["peer"]
        received = [f"from {_peers(donors)} {share}" for donors, share in _received(record, peer)]
        parts = [
            f"round {record['round']}/{self._rounds}",
            f"peer {peer}",
            f"loss {_number(report['loss'])}",
            f"{SELECTION_METRIC} {_number(_validation(report))}",
            *received,
            f"{sum(report['seconds'].values()):.1f} s",
        ]
        return "  ".join(parts)

    def _view(self) -> Group:
        return Group(self._table(), Text(self._caption()))

    def _table(self) -> Table:
        table = _empty_table()
        record = self._record
        reports = {report["peer"]: report for report in record["peers"]} if record else {}
        running = {
            now.peer: now for now in self._progress if record is None or now.round > record["round"]
        }
        for peer in sorted(reports.keys() | running.keys()):
            report, now = reports.get(peer), running.get(peer)
            round = now.round if now else record["round"] if record else 0
            loss = now.loss if now else report and report["loss"]
            received = [
                f"from {_peers(donors).removeprefix('peer ')}: {share}"
                for donors, share in _received(record, peer)
            ]
            table.add_row(
                str(peer),
                f"{round}/{self._rounds}",
                ProgressBar(max(now.steps, 1), now.step) if now else ProgressBar(1, 1),
                _number(loss),
                _number(report and _validation(report)),
                _number(self._best.get(peer)),
                ", ".join(received) or MISSING,
                now.phase if now else "done",
            )
        return table

    def _caption(self) -> str:
        parts = [f"elapsed {duration(time.monotonic() - self._started)}"]
        if record := self._record:
            parts.append(f"last round {sum(record['seconds'].values()):.1f} s")
            if best := record["best"]:
                value = f"{SELECTION_METRIC} {best[SELECTION_METRIC]:.4f}"
                parts.append(f"best {value} (peer {best['peer']}, round {best['round']})")
        return ", ".join(parts)


def _best_with(best: Mapping[int, float], record: Mapping[str, Any]) -> Mapping[int, float]:
    """Each peer's best validation so far, and in another round."""
    values = {report["peer"]: _validation(report) for report in record["peers"]}
    now = {peer: value for peer, value in values.items() if value is not None}
    return {**best, **{peer: max(value, best.get(peer, value)) for peer, value in now.items()}}


def print_results(console: Console, metrics: Mapping[str, Any]) -> None:
    """Print a run's metrics beside those of popularity, as wide as they are, never cut.

    Parameters
    ----------
    console
        A terminal or not.
    metrics
        As in ``metrics.json``, with or without "test".
    """
    head, *rows = metrics_table(metrics)
    table = Table(
        box=box.SIMPLE_HEAD,
        title="HR, MRR and NDCG over the whole catalogue",
        title_justify="left",
        title_style="bold",
        show_edge=False,
    )
    for column, name in enumerate(head):
        table.add_column(name, justify="right" if column else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_whole(console, table)


def print_whole(console: Console, table: Table) -> None:
    """Print a table as wide as it is, whatever the terminal's width."""
    table.width = Measurement.get(console, console.options.update_width(WIDE), table).maximum
    console.print(table, crop=False)


def _empty_table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name, width in COLUMNS.items():
        # The bar gives way where the terminal is narrow. Rich marks what it cuts with a
        # character that not every terminal has: crop.
        is_bar = name == "epoch"
        table.add_column(
            name,
            min_width=width,
            max_width=BAR_WIDTH if is_bar else None,
            no_wrap=not is_bar,
            overflow="crop",
        )
    return table


def standard_output() -> Console:
    """Standard output: a terminal only if it is one."""
    # Variables that ask for colours in logs (FORCE_COLOR) make rich take a pipe for a terminal.
    return Console(force_terminal=None if sys.stdout.isatty() else False)


def _writable(console: Console, text: str) -> str:
    return text.encode(console.encoding, errors="backslashreplace").decode(console.encoding)


def _number(value: float | None) -> str:
    return MISSING if value is None or math.isnan(value) else f"{value:.4f}"


def _validation(report: Mapping[str, Any]) -> float | None:
    """Validation NDCG@10 of a peer's report, where it was due."""
    return report["validation"][SELECTION_METRIC] if report["validation"] else None


def _received(record: Mapping[str, Any] | None, peer: int) -> Iterator[tuple[list[int], str]]:
    """From whom a peer received, and their share in percent; many donors are told as one."""
    shares = mean_shares([record], peer) if record else {}
    if len(shares) > MOST_DONORS:
        yield list(shares), _percent(sum(shares.values()))
        return
    for donor, share in shares.items():
        yield [donor], _percent(share)


def _peers(donors: Sequence[int]) -> str:
    return f"peer {donors[0]}" if len(donors) == 1 else f"{len(donors)} peers"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if abs(percent) >= 1 or not percent else f"{percent:.2g} %"
