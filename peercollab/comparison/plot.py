"""The picture of a comparison: every arm's difference from the baseline, with what is not known."""

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from peercollab.results.plots import PEER_COLOURS, STYLE, WIDTH


@matplotlib.rc_context(STYLE)
def differences_figure(result: Mapping[str, Any]) -> Figure:
    """A row for each arm, in the order of the table: interval, mean, and every seed.

    Parameters
    ----------
    result
        As in ``comparison.json``, with at least one difference.
    """
    found = result["differences"]
    figure = Figure(figsize=(WIDTH, 1.2 + 0.42 * len(found)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.0, color="#555555", linestyle=":")
    for row, of in enumerate(found):
        interval = (of["both"] or of["new_users"])["interval"]
        colour = PEER_COLOURS[0] if of["claimed"] else PEER_COLOURS[-1]
        axes.plot([interval["low"], interval["high"]], [row, row], color=colour, linewidth=2)
        axes.plot(of["difference"], row, color=colour, marker="D", markersize=7)
        seeds = of["by_seed"]
        axes.plot(
            seeds,
            [row + 0.25] * len(seeds),
            color=colour,
            marker="o",
            markersize=4,
            markerfacecolor="none",
            linestyle="none",
        )
    axes.set_yticks(range(len(found)), [_label(of) for of in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel(f"{result['metric'].upper()} less that of {result['baseline']}")
    axes.grid(axis="y", visible=False)
    return figure


def _label(of: Mapping[str, Any]) -> str:
    if not of["claimed"]:
        return str(of["arm"])
    return f"{of['arm']} ({'better' if of['difference'] > 0 else 'worse'})"
