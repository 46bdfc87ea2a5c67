"""How a comparison stands, from its folder alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peercollab.comparison.conclusion import advised_run
from peercollab.comparison.display import Done
from peercollab.comparison.folder import ASKED, COMPARISON, read_comparison, telling_of_damage
from peercollab.comparison.table import failures_of, left_of
from peercollab.errors import PeercollabError
from peercollab.models.saved import WEIGHTS
from peercollab.results.heartbeat import last_beat
from peercollab.results.run_folder import BEST, read_config, recommend_command, report_command


def is_comparison(folder: Path) -> bool:
    """Whether a folder is that of a comparison."""
    return (folder / ASKED).is_file()


def comparison_in_words(folder: Path) -> str:
    """What is done, what failed, where the runs are that go on, and what can be done now.

    Raises
    ------
    PeercollabError
        A file is damaged.
    """
    outcomes = {path: _outcome(path) for path in sorted(folder.glob("*/*/seed-*.outcome.json"))}
    failed = {path: error for path, error in outcomes.items() if error}
    trained = [path for path in outcomes if path.parents[1].name == "runs" and path not in failed]
    beat = last_beat(folder)
    going_on = beat is not None and beat.is_alive
    left, serving, is_ended = None, None, False
    if not going_on and (folder / COMPARISON).is_file():
        with telling_of_damage(folder):
            result = read_comparison(folder)
            left = left_of(result)
            # Trials, and arms that are left out now, may have failed without anything being left.
            is_ended = not left and not failures_of(result)
            serving = serving_command(folder, result) if is_ended else None
    report = report_command(folder)
    state = "ended" if is_ended else "not going on"
    if beat and going_on:
        state = f"going on (process {beat.pid} on {beat.host})"
    word = "training" if len(trained) == 1 else "trainings"
    lines = [f"{folder}: a comparison, {state}; {len(trained)} {word} done"]
    if failed:
        lines[0] += f", {len(failed)} failed"
    lines += [f"{_named(path)} failed: {error}" for path, error in failed.items()]
    if beat and going_on:
        lines += [str(Done(**now)) for now in beat.progress]
        lines += [
            f"{_named(run)}: round {now['round']}, {now['phase']} {now['step']}/{now['steps']}"
            for run in sorted((folder / "runs").glob("*/seed-*/"))
            if (of := last_beat(run)) and of.is_alive and of.progress
            for now in of.progress[-1:]
        ]
        lines.append("next: wait")
    elif is_ended:
        lines.append("next: " + "  or  ".join([serving, report] if serving else [report]))
    elif left is not None:
        lines += left
        lines.append(
            f"next: {report} tells what is known; the same peercollab compare "
            "goes on with what is not done"
        )
    else:
        lines.append("next: the same peercollab compare goes on with it")
    return "\n".join(lines)


def serving_command(folder: Path, result: Mapping[str, Any]) -> str | None:
    """The command that recommends with the model to take, if there is one.

    Parameters
    ----------
    folder
        The comparison's.
    result
        As in ``comparison.json``.

    Raises
    ------
    PeercollabError
        The model's run is damaged.
    """
    advised = advised_run(result)
    # Where a comparison was restored there are no models.
    if advised is None or not (folder / advised / BEST / WEIGHTS).is_file():
        return None
    return recommend_command(folder / advised, read_config(folder / advised))


def require_no_comparison(folder: Path, instead: str) -> None:
    """Refuse the folder of a comparison where that of a run is wanted, and name one.

    Parameters
    ----------
    folder
        What was given.
    instead
        What may be had of a comparison.

    Raises
    ------
    PeercollabError
        It is that of a comparison.
    """
    if not is_comparison(folder):
        return
    runs = sorted(path for path in folder.glob("runs/*/seed-*") if path.is_dir())
    one = f"name one of its runs, such as {runs[0]}" if runs else "it has no run yet"
    raise PeercollabError(f"{folder} is a comparison, {instead}: {one}")


def _outcome(path: Path) -> str | None:
    try:
        error: str | None = json.loads(path.read_text(encoding="utf-8"))["error"]
    except (OSError, ValueError, KeyError, TypeError) as damage:
        raise PeercollabError(f"{path} is damaged: {damage}") from damage
    return error


def _named(path: Path) -> str:
    return f"{path.parent.name}, {path.name.partition('.')[0].replace('-', ' ')}"
