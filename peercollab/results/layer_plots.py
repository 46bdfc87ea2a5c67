"""The pictures of a report that show layers: what was exchanged, and by which criterion."""

import itertools
import math
from collections.abc import Collection, Sequence

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
# In a panel's title; more donors than these are told by their number.
MOST_DONORS = 2


@matplotlib.rc_context(STYLE)
def donor_shares(rounds: Sequence[Record]) -> Figure | None:
    """For every receiver a map of the donors' share by layer and round.

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
    scopes = {
        name: scope
        for name, scope in rounds[0]["layers"].items()
        if any(name in transfer["shares"] for _, transfer in transfers)
    }
    receivers = sorted({transfer["receiver"] for _, transfer in transfers})
    n_rows = math.ceil(len(receivers) / 4)
    n_columns = math.ceil(len(receivers) / n_rows)
    height = 0.9 + n_rows * (0.5 + 0.19 * max(len(scopes), 5))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    first, last = rounds[0]["round"], rounds[-1]["round"]
    # What took no part in a round stays without a number, and grey.
    shares = np.full((len(receivers), len(scopes), last - first + 1), np.nan)
    for round, transfer in transfers:
        of_receiver = shares[receivers.index(transfer["receiver"])]
        for row, name in enumerate(scopes):
            if name in transfer["shares"]:
                before = np.nan_to_num(of_receiver[row, round - first])
                of_receiver[row, round - first] = before + transfer["shares"][name]
    limits = share_range(shares)
    for axes, receiver, share in zip(grid.flat, receivers, shares, strict=False):
        image = _share_map(axes, share, list(scopes), rounds, limits)
        donors = {t["donor"] for _, t in transfers if t["receiver"] == receiver}
        axes.set_title(f"peer {receiver} from {_told(donors)}")
        _scope_borders(axes, list(scopes.values()))
        round_axis(axes, rounds, n_ticks=12 // n_columns)
    _label_lowest(grid, len(receivers))
    bar = figure.colorbar(image, ax=grid, shrink=min(1.0, 3 / height), pad=0.02)
    bar.set_label("donors' share")
    return figure


@matplotlib.rc_context(STYLE)
def criterion_values(rounds: Sequence[Record]) -> Figure | None:
    """The criterion's value of every layer over rounds, a panel a layer, a line a peer.

    None if the rule measures nothing.
    """
    measured = {
        name for record in rounds for values in record["statistics"].values() for name in values
    }
    names = [name for name in rounds[0]["layers"] if name in measured]
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


def share_range(shares: np.ndarray) -> tuple[float, float]:
    """Where colours begin and end: at 0 and 1, unless all shares are small, or any lie beyond.

    Parameters
    ----------
    shares
        Those that are numbers count; a rule of the user's own can have negative ones.
    """
    finite = shares[np.isfinite(shares)]
    bottom, top = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    small = 0 < max(top, -bottom) <= SMALL_SHARE
    return bottom, top if small else max(1.0, top)


def _share_map(
    axes: Axes,
    share: np.ndarray,
    names: Sequence[str],
    rounds: Sequence[Record],
    limits: tuple[float, float],
) -> AxesImage:
    """One receiver's map, of layers by rounds."""
    bottom, top = limits
    image = axes.imshow(
        share,
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        vmin=bottom,
        vmax=top,
        extent=(rounds[0]["round"] - 0.5, rounds[-1]["round"] + 0.5, len(names) - 0.5, -0.5),
    )
    axes.set_facecolor(NO_SHARE)
    axes.grid(visible=False)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=2)
    return image


def _told(donors: Collection[int]) -> str:
    if len(donors) > MOST_DONORS:
        return f"{len(donors)} peers"
    return ", ".join(map(str, sorted(donors)))


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
