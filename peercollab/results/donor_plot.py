"""The picture of a report that shows who gave to whom."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from peercollab.results.layer_plots import NO_SHARE, share_range
from peercollab.results.plots import STYLE, WIDTH, Record, peers_of
from peercollab.results.shares import mean_shares

# With fewer, the map of layers says it all.
FEWEST_PEERS = 3
ROW_HEIGHT = 0.3
# Inches that the numbers of the receivers take, and what a cell is wide at most.
MARGIN = 0.8
CELL_WIDTH = 0.75


@matplotlib.rc_context(STYLE)
def donor_matrix(rounds: Sequence[Record]) -> Figure | None:
    """For every receiver, a row with each donor's mean share over the run.

    None if nothing was exchanged, or among so few peers that there is nothing to tell apart.
    """
    given = {peer: mean_shares(rounds, peer) for peer in peers_of(rounds)}
    if len(given) < FEWEST_PEERS or not any(given.values()):
        return None
    share = np.array([[donors.get(donor, np.nan) for donor in given] for donors in given.values()])
    cell = min(CELL_WIDTH, (WIDTH - MARGIN) / len(given))
    figure = Figure(figsize=(WIDTH, 0.8 + ROW_HEIGHT * len(given)), layout="constrained")
    axes = figure.subplots()
    bottom, top = share_range(share)
    axes.imshow(share, cmap="viridis", vmin=bottom, vmax=top, aspect=ROW_HEIGHT / cell)
    axes.set_anchor("W")
    axes.set_title("mean share over the run")
    axes.set_xlabel("from peer")
    axes.set_ylabel("to peer")
    axes.set_xticks(range(len(given)), list(map(str, given)))
    axes.set_yticks(range(len(given)), list(map(str, given)))
    axes.set_facecolor(NO_SHARE)
    axes.grid(visible=False)
    axes.tick_params(length=2)
    # Seven characters fit into a cell.
    _write_numbers(axes, share, (share - bottom) / (top - bottom), size=min(8.0, 16 * cell))
    return figure


def _write_numbers(axes: Axes, share: np.ndarray, brightness: np.ndarray, size: float) -> None:
    for (row, column), value in np.ndenumerate(share):
        if np.isnan(value):
            continue
        axes.text(
            column,
            row,
            f"{value:.2f}" if abs(value) >= 0.1 or not value else f"{value:#.2g}",
            ha="center",
            va="center",
            fontsize=size,
            color="black" if brightness[row, column] > 0.5 else "white",
        )
