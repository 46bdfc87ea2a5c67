"""The pictures of a report that show layers: what was exchanged, and by which criterion."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from peercollab.results.plots import (
    STYLE,
    WIDTH,
    Record,
    legend_below,
    peer_line,
    peers_of,
    round_axis,
)

NO_SHARE = "#E4E4E4"
# Where all shares are smaller, colours end at the largest of them and not at 1.
SMALL_SHARE = 0.2


@matplotlib.rc_context(STYLE)
def donor_shares(rounds: Sequence[Record], layers: Mapping[str, str]) -> Figure | None:
    """For every receiver a map of the donors' share by layer and round.

    Parameters
    ----------
    rounds
        The records.
    layers
        Scope of each layer, in the order of the model.

    Returns
    -------
    Figure or None
        None if nothing was exchanged.
    """
    transfers = [
        (record["round"], transfer)
        for record in rounds
        for transfer in record["transfers"]
        if transfer["shares"]
    ]
    if not transfers:
        return None
    names = [
        name for name in layers if any(name in transfer["shares"] for _, transfer in transfers)
    ]
    receivers = sorted({transfer["receiver"] for _, transfer in transfers})
    n_rows = math.ceil(len(receivers) / 4)
    n_columns = math.ceil(len(receivers) / n_rows)
    height = 0.9 + n_rows * (0.5 + 0.19 * max(len(names), 5))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    totals: Counter[tuple[int, int, str]] = Counter()
    for round, transfer in transfers:
        for name, share in transfer["shares"].items():
            totals[transfer["receiver"], round, name] += share
    largest = max(totals.values())
    top = 1.0 if largest > SMALL_SHARE or not largest else largest
    for axes, receiver in zip(grid.flat, receivers, strict=False):
        own = [
            (round, transfer) for round, transfer in transfers if transfer["receiver"] == receiver
        ]
        image = _share_map(axes, own, names, rounds, top)
        _scope_borders(axes, [layers[name] for name in names])
        round_axis(axes, rounds, n_ticks=12 // n_columns)
    _label_lowest(grid, len(receivers))
    bar = figure.colorbar(image, ax=grid, shrink=min(1.0, 3 / height), pad=0.02)
    bar.set_label("donors' share")
    return figure


@matplotlib.rc_context(STYLE)
def criterion_values(rounds: Sequence[Record], layers: Mapping[str, str]) -> Figure | None:
    """The criterion's value of every layer over rounds, a panel a layer, a line a peer.

    None if the rule measures nothing.
    """
    measured = {
        name for record in rounds for values in record["statistics"].values() for name in values
    }
    names = [name for name in layers if name in measured]
    if not names:
        return None
    n_columns = min(5, len(names))
    n_rows = math.ceil(len(names) / n_columns)
    figure = Figure(figsize=(WIDTH, 0.6 + 1.45 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        for peer in peers_of(rounds):
            values = [
                (record["round"], record["statistics"][str(peer)][name])
                for record in rounds
                if name in record["statistics"].get(str(peer), {})
            ]
            peer_line(axes, peer, values, len(rounds), small=True)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7, length=2)
        axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
        axes.ticklabel_format(axis="y", useOffset=False)
        round_axis(axes, rounds, n_ticks=4)
    _label_lowest(grid, len(names))
    legend_below(figure, grid[0, 0])
    return figure


def _share_map(
    axes: Axes,
    transfers: Sequence[tuple[int, Record]],
    names: Sequence[str],
    rounds: Sequence[Record],
    top: float,
) -> AxesImage:
    """One receiver's map; what took no part in a round stays grey."""
    first, last = rounds[0]["round"], rounds[-1]["round"]
    share = np.full((len(names), last - first + 1), np.nan)
    for round, transfer in transfers:
        for name, given in transfer["shares"].items():
            at = names.index(name), round - first
            share[at] = given if np.isnan(share[at]) else share[at] + given
    image = axes.imshow(
        share,
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        vmin=0,
        vmax=top,
        extent=(first - 0.5, last + 0.5, len(names) - 0.5, -0.5),
    )
    donors = sorted({transfer["donor"] for _, transfer in transfers})
    receiver = transfers[0][1]["receiver"]
    axes.set_title(f"peer {receiver} from {', '.join(map(str, donors))}")
    axes.set_facecolor(NO_SHARE)
    axes.grid(visible=False)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=2)
    return image


def _label_lowest(grid: np.ndarray, n_panels: int) -> None:
    """Name the rounds below the lowest panel of each column alone; hide what holds no panel."""
    panels, spare = np.split(grid.flatten(), [n_panels])
    for axes in panels[: -grid.shape[1]]:
        axes.set_xlabel("")
    for axes in panels[-grid.shape[1] :]:
        axes.tick_params(labelbottom=True)
    for axes in spare:
        axes.set_visible(False)


def _scope_borders(axes: Axes, scopes: Sequence[str]) -> None:
    for row, (above, below) in enumerate(itertools.pairwise(scopes)):
        if above != below:
            axes.axhline(row + 0.5, color="white", linewidth=2)
