"""The picture of a comparison: every arm's difference from the baseline, with what is not known."""

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from peercollab.results.plots import PEER_COLOURS, STYLE, WIDTH, legend_below


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


@matplotlib.rc_context(STYLE)
def similarity_figure(result: Mapping[str, Any]) -> Figure | None:
    """How alike peers are before they mix, by round: a line for each arm, a panel for each scope.

    None if no arm has peers that gave whole layers.
    """
    similar = {
        arm["name"]: arm["exchanges"]["similarity"]
        for arm in result["arms"]
        if arm["exchanges"] and arm["exchanges"]["similarity"]
    }
    if not similar:
        return None
    scopes = list(dict.fromkeys(scope for by_scope in similar.values() for scope in by_scope))
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    panels = figure.subplots(1, len(scopes), sharey=True, squeeze=False)[0]
    for axes, scope in zip(panels, scopes, strict=True):
        for place, (name, by_scope) in enumerate(similar.items()):
            by_round = by_scope.get(scope, {})
            colour = PEER_COLOURS[place % len(PEER_COLOURS)]
            axes.plot(list(map(int, by_round)), by_round.values(), color=colour, label=name)
        axes.set_title(scope)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[0].set_ylabel("cosine")
    legend_below(figure, panels[0])
    return figure


def _label(of: Mapping[str, Any]) -> str:
    if not of["claimed"]:
        return str(of["arm"])
    return f"{of['arm']} ({'better' if of['difference'] > 0 else 'worse'})"
