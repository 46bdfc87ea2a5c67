"""The report of a comparison: one HTML file that needs nothing else."""

import shlex
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from peercollab.comparison.folder import telling_of_damage
from peercollab.comparison.plot import differences_figure, similarity_figure
from peercollab.comparison.table import remarks_on, table_of
from peercollab.results.display import duration
from peercollab.results.metrics_table import MISSING
from peercollab.results.page import details, numbers, page, picture, write_page
from peercollab.results.run_folder import REPORT


def write_comparison_report(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write ``report.html`` of a comparison, whole or not, into its folder.

    Parameters
    ----------
    folder
        The comparison's folder.
    result
        As in ``comparison.json``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PeercollabError
        The result is of another version, or the page cannot be written.
    """
    name = folder.resolve().name
    with telling_of_damage(folder):
        text = page(escape(name), [f"<h1>Comparison {escape(name)}</h1>", *_body(name, result)])
    return write_page(text, folder / REPORT)


def _body(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    data = result["data"]
    yield (
        f"<p>Data {escape(data['name'])}: {data['users']:,} users, {data['items']:,} items, "
        f"{data['interactions']:,} interactions.</p>"
    )
    yield f'<p class="headline">{escape(result["conclusion"])}</p>'
    for line in remarks_on(result):
        yield f'<div class="note">{escape(line)}</div>'
    yield "<h2>Arms</h2>"
    head, *rows = table_of(result)
    yield numbers(head, rows)
    yield (
        "<p>Test and validation: mean and standard deviation over seeds, of the whole catalogue. "
        "Difference: to the baseline on test, user by user and seed by seed; its interval is for "
        "other users and other trainings at once, and for this arm alone; p is the largest of "
        "three questions (other users, other trainings, both), corrected for the number of arms. "
        "Inference: models that are asked to rank for a user. Costs are of one seed, its peers one "
        "after another in one process, and of its rounds; of an end of several trainings the whole "
        "of it, too; trainings that several arms share count for each. Core-h and GPU-h: the cores "
        "and GPUs that were held for as long; memory: the most that the process had.</p>"
    )
    if result["differences"]:
        yield "<h2>What differs</h2>"
        yield picture(
            differences_figure(result),
            f"Test NDCG@10 less that of {result['baseline']}: the mean difference with its 95 % "
            "interval (for other users and other trainings; of a single seed for other users "
            "alone), and each seed by itself as a small circle.",
        )
        items = "".join(f"<li>{escape(of['verdict'])}</li>" for of in result["differences"])
        yield f"<h2>What may be said</h2><ul>{items}</ul>"
        if others := dict(_by_other_methods(result)):
            yield details("The same by other methods", others)
    if similarity := similarity_figure(result):
        yield "<h2>How alike peers are</h2>"
        yield picture(
            similarity,
            "Cosine between a receiver's weights and a donor's before the first exchange of a "
            "round, as a mean over layers, pairs of peers and seeds.",
        )
    if result["trials"]:
        yield "<h2>The search</h2>"
        yield numbers(
            ("arm", "trial", "options", "validation NDCG@10", "time"),
            [_trial(trial) for trial in result["trials"]],
        )
    yield "<h2>How it was made</h2>"
    command = f"{result['command']} --out {shlex.quote(name)}"
    yield f"<p><code>{escape(command)}</code></p>"
    yield details("Arms", {arm["name"]: _what(arm) for arm in result["arms"]})


def _by_other_methods(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What stands beside the table's interval and p, without the normality that these rest on."""
    for of in result["differences"]:
        if of["bootstrap"]:
            low, high = of["bootstrap"]["low"], of["bootstrap"]["high"]
            yield (
                of["arm"],
                f"bootstrap of seeds and users: {low:+.4f} to {high:+.4f}; p of flipping the signs "
                f"of seeds: {of['seed_flips_p_value']:.2g} ({of['seed_flips_least']:.2g} at least)",
            )


def _trial(trial: Mapping[str, Any]) -> tuple[str, ...]:
    value = trial["validation"]
    return (
        trial["arm"],
        str(trial["trial"]),
        trial["changes"] or "as given",
        trial["error"] if value is None else f"{value:.4f}",
        duration(seconds) if (seconds := trial.get("seconds")) else MISSING,
    )


def _what(arm: Mapping[str, Any]) -> str:
    changes = f"; {arm['changes']}" if arm["changes"] else ""
    return f"{arm['what']}{changes}; runs: {', '.join(arm['runs'])}"
