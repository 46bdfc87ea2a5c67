"""The pictures of a report, from the records of a run's rounds: learning and costs.

A peer has one colour and one marker in all of them. Figures are made without pyplot, so that
nothing is left open and no window system is asked for.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from peercollab.training.metrics import SELECTION_METRIC

Record = Mapping[str, Any]

# Okabe and Ito's colours, which colour-blind readers tell apart; its yellow is too pale for lines.
PEER_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
    "#8C8C8C",
)
PEER_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    # Whatever a user has set: names are no formulas.
    "text.usetex": False,
    "text.parse_math": False,
    # The same run gives the same bytes.
    "svg.hashsalt": "peercollab",
}
WIDTH = 10.0
# At more rounds than these, markers would hide the line, and gaps between bars would flicker.
MOST_SEPARATE = 40


def to_svg(figure: Figure) -> bytes:
    """The picture as SVG, with its text as outlines so that it looks the same everywhere."""
    file = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="svg", dpi=150, metadata=nothing)
    return file.getvalue()


@matplotlib.rc_context(STYLE)
def learning_curves(
    rounds: Sequence[Record],
    selected: Mapping[str, Any] | None,
    popularity: float | None,
) -> Figure:
    """Training loss and validation NDCG@10 of every peer; the kept state, popularity's value."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    loss, validation = figure.subplots(1, 2)
    loss.set_title("training loss")
    validation.set_title("validation NDCG@10")
    for peer in peers_of(rounds):
        reports = [(record["round"], report) for record, report in _reports(rounds, peer)]
        losses = [(round, r["loss"]) for round, r in reports if r["loss"] is not None]
        peer_line(loss, peer, losses, len(rounds))
        ranked = [
            (round, r["validation"][SELECTION_METRIC]) for round, r in reports if r["validation"]
        ]
        peer_line(validation, peer, ranked, len(rounds))
    if popularity is not None:
        validation.axhline(popularity, color="#555555", linestyle=":", label="popularity")
    if selected and "ingredients" in selected:
        validation.axhline(
            selected[SELECTION_METRIC],
            color="black",
            linestyle="--",
            label=f"kept: {selected['select']} of {len(selected['ingredients'])}",
        )
    elif selected:
        validation.plot(
            selected["round"],
            selected[SELECTION_METRIC],
            marker="o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor="black",
            linestyle="none",
            label=f"kept: peer {selected['peer']}, round {selected['round']}",
        )
    for axes in (loss, validation):
        round_axis(axes, rounds)
    legend_below(figure, validation)
    return figure


@matplotlib.rc_context(STYLE)
def costs(rounds: Sequence[Record]) -> Figure:
    """Seconds of each phase, stacked, and megabytes that went from peer to peer, if any."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    moved = [record["bytes_moved"] / 1e6 for record in rounds]
    seconds, *others = figure.subplots(1, 2 if any(moved) else 1, squeeze=False).flat
    width = 0.8 if len(rounds) <= MOST_SEPARATE else 1.0
    numbers = [record["round"] for record in rounds]
    phases = list(dict.fromkeys(phase for record in rounds for phase in record["seconds"]))
    values = np.array([[r["seconds"].get(phase, 0.0) for r in rounds] for phase in phases])
    totals = values.sum(axis=1)
    colours = matplotlib.colormaps["cividis"](np.linspace(0.15, 0.95, len(phases)))
    bottoms = values.cumsum(axis=0) - values
    for phase, value, bottom, total, colour in zip(
        phases, values, bottoms, totals, colours, strict=True
    ):
        share = total / totals.sum() if totals.sum() else 0.0
        label = f"{phase} {f'{total:,.0f}' if total >= 100 else f'{total:.3g}'} s ({share:.1%})"
        seconds.bar(numbers, value, width, bottom, color=colour, label=label)
    seconds.set_title("seconds of each phase")
    for axes in others:
        axes.bar(numbers, moved, width, color="#555555")
        axes.set_title("weights moved between peers, MB")
    for axes in (seconds, *others):
        round_axis(axes, rounds)
    legend_below(figure, seconds)
    return figure


def peers_of(rounds: Sequence[Record]) -> list[int]:
    """All peers that reported, in order."""
    return sorted({report["peer"] for record in rounds for report in record["peers"]})


def _reports(rounds: Sequence[Record], peer: int) -> Iterable[tuple[Record, Record]]:
    for record in rounds:
        for report in record["peers"]:
            if report["peer"] == peer:
                yield record, report


def peer_line(
    axes: Axes,
    peer: int,
    points: Sequence[tuple[int, float]],
    n_rounds: int,
    *,
    small: bool = False,
) -> None:
    """Draw a peer's ``(round, value)`` points in its colour; markers only where there is room."""
    look = (peer - 1) % len(PEER_COLOURS)
    axes.plot(
        [round for round, _ in points],
        [value for _, value in points],
        color=PEER_COLOURS[look],
        marker=PEER_MARKERS[look] if n_rounds <= MOST_SEPARATE else None,
        linewidth=1.1 if small else 1.6,
        markersize=3 if small else 5,
        label=f"peer {peer}",
    )


def round_axis(axes: Axes, rounds: Sequence[Record], n_ticks: int = 8) -> None:
    """The same axis of rounds in every picture."""
    axes.set_xlabel("round")
    axes.set_xlim(rounds[0]["round"] - 0.5, rounds[-1]["round"] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(n_ticks, integer=True, min_n_ticks=1))


def legend_below(figure: Figure, axes: Axes) -> None:
    """One legend for the whole figure, from one of its panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
