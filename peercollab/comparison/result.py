"""What a comparison came to, as ``comparison.json`` has it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peercollab.comparison.arms import Arm
from peercollab.comparison.conclusion import conclusion
from peercollab.comparison.entry import Entry, is_whole
from peercollab.comparison.exchanges import exchanges_of
from peercollab.comparison.folder import ComparisonFolder, telling_of_damage
from peercollab.comparison.options import CompareOptions
from peercollab.comparison.search import SEARCH_SEED, Trial, is_searched, taken
from peercollab.comparison.work import Job, read_outcome
from peercollab.data.sequences import SequenceData
from peercollab.results.per_user import read_per_user
from peercollab.results.run_folder import RunFolder
from peercollab.run import popularity_ranks
from peercollab.significance.compare import compare_arms
from peercollab.significance.pairing import pair
from peercollab.significance.verdict import verdict
from peercollab.training.metrics import SELECTION_METRIC, metrics_of
from peercollab.version import __version__

NOT_DONE = "it was not done"


def result_of(
    options: CompareOptions,
    data: SequenceData,
    trials: Sequence[Sequence[Trial]],
    folder: ComparisonFolder,
) -> dict[str, Any]:
    """All that is shown of a comparison, whole or not.

    Parameters
    ----------
    options
        Of the comparison.
    data
        What it is on.
    trials
        Of each arm all trials.
    folder
        Where it lies.

    Raises
    ------
    PeercollabError
        A file of a run in it is damaged.
    """
    with telling_of_damage(folder.path):
        return _result(options, data, trials, folder)


def _result(
    options: CompareOptions,
    data: SequenceData,
    trials: Sequence[Sequence[Trial]],
    folder: ComparisonFolder,
) -> dict[str, Any]:
    baseline, seeds = options.compared_with, options.seed_numbers
    numbers = folder.chosen()
    found_out = [taken(of, numbers) for of in trials]
    # Before its search has come to its end nothing is known of an arm.
    chosen = [trial or of[0] for trial, of in zip(found_out, trials, strict=True)]
    entries = {
        trial.arm.name: {
            seed: entry_of(folder, trial.arm, seed) if trial in found_out else None
            for seed in seeds
        }
        for trial in chosen
    }
    arms = [
        {
            "name": trial.arm.name,
            "what": trial.arm.what,
            "options": trial.arm.text,
            "changes": " ".join(trial.changes),
            "inference_cost": trial.arm.inference_cost,
            "runs": [training.name for training in trial.arm.trainings],
            "seeds": {str(seed): entry for seed, entry in entries[trial.arm.name].items()},
            "exchanges": exchanges_of(
                [
                    RunFolder(folder.last(trial.arm, seed).folder).rounds()
                    for seed, entry in entries[trial.arm.name].items()
                    if is_whole(entry)
                ]
            ),
        }
        for trial in chosen
    ]
    found = differences(folder, [trial.arm for trial in chosen], entries, baseline)
    histories = data.histories
    popular = popularity_ranks(histories, keep_seen=options.training.keep_seen)["test"]
    popularity = metrics_of(popular)[SELECTION_METRIC]
    tried = [
        trial_record(folder, trial, options.training.seed + SEARCH_SEED)
        for of in trials
        if is_searched(of)
        for trial in of
    ]
    return {
        "peercollab": __version__,
        "data": {
            # No path: results are given to others.
            "name": Path(options.data).name,
            "checksum": data.checksum(),
            "users": histories.n_users,
            "items": histories.n_items,
            "interactions": len(histories.items),
        },
        "command": options.command(),
        "metric": SELECTION_METRIC,
        "baseline": baseline,
        "arms": arms,
        "popularity": popularity,
        "differences": found,
        "notes": folder.notes(),
        "conclusion": conclusion(found, arms, baseline, popularity)
        if None not in found_out
        else _search_in_words(tried),
        "trials": tried,
    }


def _search_in_words(tried: Sequence[Mapping[str, Any]]) -> str:
    """Of a search that some arm has taken nothing from, how it stands."""
    if any(trial["error"] == NOT_DONE for trial in tried):
        return "The search for options has not come to its end."
    names = dict.fromkeys(trial["arm"] for trial in tried)
    failed = [
        name for name in names if all(trial["error"] for trial in tried if trial["arm"] == name)
    ]
    return (
        f"All trials of {', '.join(failed)} failed, so that no options could be chosen: see the "
        "trials in the report, and give the same command again, which repeats what failed."
    )


def trial_record(folder: ComparisonFolder, trial: Trial, seed: int) -> dict[str, Any]:
    """What a trial took, and came to on validation; nothing of what it came to on test."""
    entry = entry_of(folder, trial.arm, seed) or {"error": NOT_DONE}
    return {
        "arm": trial.arm.name,
        "trial": trial.number,
        "changes": " ".join(trial.changes),
        "error": entry["error"],
        "validation": None if entry["error"] else entry["validation"][SELECTION_METRIC],
        **{cost: entry.get(cost) for cost in ("seconds", "core_seconds", "gpu_seconds")},
    }


def entry_of(folder: ComparisonFolder, arm: Arm, seed: int) -> Entry | None:
    """What one seed of an arm came to; None if it is not done yet.

    With an error there is nothing else; costs of several trainings are added up, as if no other
    arm shared them, and of memory the most is told.
    """
    jobs: list[Job] = [*folder.trainings(arm, seed)]
    if (ending := folder.ending(arm, seed)) is not None:
        jobs.append(ending)
    found = [read_outcome(job) for job in jobs]
    outcomes = [outcome for outcome in found if outcome is not None]
    if errors := [outcome.error for outcome in outcomes if outcome.error]:
        return {"error": errors[0]}
    if len(outcomes) < len(jobs):
        return None
    metrics = RunFolder(folder.last(arm, seed).folder).metrics()
    return {
        "error": None,
        "validation": metrics["validation"],
        "test": metrics["test"],
        "selected": metrics["selected"],
        "folder": folder.last(arm, seed).folder.relative_to(folder.path).as_posix(),
        "rounds": max(outcome.rounds for outcome in outcomes),
        "seconds": sum(outcome.seconds for outcome in outcomes),
        "core_seconds": sum(outcome.core_seconds for outcome in outcomes),
        "gpu_seconds": sum(outcome.gpu_seconds for outcome in outcomes),
        "peak_bytes": _most(outcome.peak_bytes for outcome in outcomes),
        "gpu_peak_bytes": _most(outcome.gpu_peak_bytes for outcome in outcomes),
        "parameters": arm.inference_cost * outcomes[0].parameters,
    }


def differences(
    folder: ComparisonFolder,
    arms: Sequence[Arm],
    entries: Mapping[str, Mapping[int, Entry | None]],
    baseline: str,
) -> list[dict[str, Any]]:
    """Every arm beside the baseline, under the seeds that are done of all arms that were begun.

    An arm that failed under one of these is left out. All that ever came to a model in this folder
    are counted in the correction.
    """
    begun = [of for of in entries.values() if any(entry is not None for entry in of.values())]
    seeds = [
        seed
        for seed, entry in entries[baseline].items()
        if is_whole(entry) and all(of[seed] is not None for of in begun)
    ]
    whole = [arm for arm in arms if all(is_whole(entries[arm.name][seed]) for seed in seeds)]
    if not seeds or len(whole) < 2:
        return []
    ranks = {
        arm.name: {seed: read_per_user(folder.last(arm, seed).folder, "test") for seed in seeds}
        for arm in whole
    }
    return [
        comparison.as_json() | {"verdict": verdict(comparison)}
        for comparison in compare_arms(
            pair(ranks, baseline, SELECTION_METRIC),
            others=len(folder.looked_at() - {baseline} - ranks.keys()),
        )
    ]


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
