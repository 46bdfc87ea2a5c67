"""The report of a run: one HTML file that needs nothing else.

Imports matplotlib, which is slow: import this where a report is wanted.
"""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from peercollab.results import donor_plot, layer_plots, plots
from peercollab.results.metrics_table import judged_on, metrics_table, times
from peercollab.results.page import details, numbers, page, picture, write_page
from peercollab.results.run_folder import REPORT
from peercollab.results.stored_run import StoredRun, read_run
from peercollab.training.metrics import SELECTION_METRIC


def write_report(folder: Path) -> Path:
    """Write ``report.html`` of a run, finished or not, into its folder.

    Parameters
    ----------
    folder
        The run's folder.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PeercollabError
        It is no run folder, no round has been completed, a file is damaged, or the report cannot
        be written.
    """
    run = read_run(folder)
    return write_page(_page(run, folder), folder / REPORT)


def _page(run: StoredRun, folder: Path) -> str:
    name = escape(folder.resolve().name)
    body = [
        f"<h1>Run {name}</h1>",
        f"<p>{escape(_subject(run))}</p>",
        *_headline(run),
        *_notes(run),
        "<h2>Metrics</h2>",
        _metrics_table(run.metrics),
        *_pictures(run),
        "<h2>How it was made</h2>",
        details("Options", run.config),
        details("Environment", run.environment),
    ]
    return page(name, body)


def _subject(run: StoredRun) -> str:
    n_peers = _n_peers(run)
    return (
        f"Data {run.config['data']}; {n_peers} peer{'s' if n_peers > 1 else ''}, "
        f"rule {run.config['transplant']['rule']}; {len(run.rounds)} of at most "
        f"{run.config['training']['epochs']} rounds."
    )


def _headline(run: StoredRun) -> Iterator[str]:
    selected = run.selected
    if selected is None:
        yield '<p class="headline">No state has been ranked on validation yet.</p>'
        return
    kept = _kept(selected)
    value = f"NDCG@10 {selected[SELECTION_METRIC]:.4f}"
    if "test" in run.metrics:
        yield _against_popularity(run.metrics)
        yield (
            f"<p>The model that is kept is {kept} ({value} on validation). "
            "Test was ranked once, under this model.</p>"
        )
        return
    if "validation" in run.metrics:
        yield _against_popularity(run.metrics)
    yield (
        f'<p class="note">This run has not come to its end: nothing was ranked on test. The best '
        f"so far is {kept}, with {value}; it was chosen by that number, which is "
        "therefore a little too good.</p>"
    )


def _kept(selected: Mapping[str, Any]) -> str:
    if "ingredients" not in selected:
        return (
            f"peer {selected['peer']} as it was in round {selected['round']}, the best on "
            "validation"
        )
    parts = [
        f"peer {best['peer']} of round {best['round']} ({best[SELECTION_METRIC]:.4f})"
        for best in selected["ingredients"]
    ]
    return f"a {selected['select']}, the average of {', '.join(parts)}"


def _against_popularity(metrics: Mapping[str, Any]) -> str:
    split = judged_on(metrics)
    own, popularity = (of[split][SELECTION_METRIC] for of in (metrics, metrics["popularity"]))
    compared = f"{times(own, popularity)} times" if popularity else "against"
    return (
        f'<p class="headline">{split.capitalize()} NDCG@10 is <strong>{own:.4f}</strong>, '
        f"{compared} the {popularity:.4f} of recommending what is popular.</p>"
    )


def _notes(run: StoredRun) -> Iterator[str]:
    if any(record["transfers"] for record in run.rounds):
        yield (
            "<p>Whether the exchange of weights helped is not known from this run. Only a "
            "comparison with the same run under <code>--rule none</code> can tell, best over "
            "several seeds.</p>"
        )
    elif any(record["receivers"] for record in run.rounds):
        yield (
            "<p>Weights were disturbed by noise in this run. Nothing travelled from peer to peer, "
            "so there is no map of donors' shares.</p>"
        )
    else:
        yield (
            "<p>No weights were exchanged in this run, so there is no map of donors' shares. "
            "It can serve as the other side of a comparison with a run that exchanges.</p>"
        )
    if run.cut_off:
        yield (
            '<p class="note">The last line of rounds.jsonl is unfinished, as a killed run leaves '
            "it. That round is left out here.</p>"
        )
    failures = [(r["round"], failure) for r in run.rounds for failure in r["failures"]]
    if failures:
        items = (
            f"<li>round {round}, peer {failure['peer']}: {escape(failure['reason'])} "
            f"(noticed by step {failure['step']} of the epoch)</li>"
            for round, failure in failures
        )
        yield f'<div class="note">Peers that sat a round out:<ul>{"".join(items)}</ul></div>'
    losses = [(r["round"], told) for r in run.rounds for told in r["interruptions"]]
    if losses:
        items = (
            f"<li>before the end of round {round}: {escape(told)}</li>" for round, told in losses
        )
        yield (
            f'<div class="note">Lost and brought back, with what was under way done again:'
            f"<ul>{''.join(items)}</ul></div>"
        )


def _metrics_table(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "<p>There are none yet.</p>"
    head, *rows = metrics_table(metrics)
    return f"{numbers(head, rows)}\n<p>Over the whole catalogue, averaged over users.</p>"


def _pictures(run: StoredRun) -> Iterator[str]:
    popularity = run.metrics.get("popularity", {}).get("validation", {}).get(SELECTION_METRIC)
    yield "<h2>Learning</h2>"
    yield picture(
        plots.learning_curves(run.rounds, run.selected, popularity),
        "Mean training loss of each round, and validation NDCG@10, of each peer.",
    )
    if shares := layer_plots.donor_shares(run.rounds):
        yield "<h2>What the peers gave each other</h2>"
        yield picture(
            shares,
            "Share of donors' weights in each layer after an exchange, as a mean over those of the "
            "round in which the receiver mixed: at 0 the receiver keeps its own layer, at 1 it "
            "takes the donors' whole. White lines part embedding, middle and final layers.",
        )
        if matrix := donor_plot.donor_matrix(run.rounds):
            yield picture(
                matrix,
                "Each donor's share in each receiver, as a mean over the exchanges of the run in "
                "which it mixed and over the layers that it got from anybody. Grey: gave nothing.",
            )
        if criterion := layer_plots.criterion_values(run.rounds):
            yield picture(
                criterion,
                "The value of the rule's criterion for each layer and peer, by round, as a mean "
                "over the round's exchanges.",
            )
    yield "<h2>What it cost</h2>"
    yield picture(
        plots.costs(run.rounds),
        f"Wall-clock seconds of each phase of a round, with their sums over the run.{_moved(run)}",
    )


def _moved(run: StoredRun) -> str:
    moved = sum(record["bytes_moved"] for record in run.rounds)
    return f" In all, {moved / 1e6:,.1f} MB of weights went from peer to peer." if moved else ""


def _n_peers(run: StoredRun) -> int:
    return len({report["peer"] for record in run.rounds for report in record["peers"]})
