"""What is kept of a comparison, made again from its runs."""

import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peercollab.command_line import parse
from peercollab.comparison.conclusion import conclusion
from peercollab.comparison.entry import is_whole
from peercollab.comparison.folder import ComparisonFolder
from peercollab.comparison.options import CompareOptions
from peercollab.comparison.result import differences, entry_of
from peercollab.results.run_folder import RunFolder
from peercollab.training.metrics import SELECTION_METRIC


def require_same_again(record: Mapping[str, Any], path: Path) -> None:
    """Judge the runs in a comparison's folder anew; its record has to say the same."""
    assert not record["trials"], "which options arms were tried with is not made again here"
    words = shlex.split(record["command"])[2:]
    options = parse(CompareOptions, [*words, "--out", str(path)], "compare")
    folder, arms, baseline = ComparisonFolder(path), options.made_arms, options.compared_with
    entries = {
        arm.name: {seed: entry_of(folder, arm, seed) for seed in options.seed_numbers}
        for arm in arms
    }
    assert record["baseline"] == baseline
    for arm in record["arms"]:
        told = {str(seed): entry for seed, entry in entries[arm["name"]].items()}
        assert arm["seeds"] == told
    popular = {
        RunFolder(job.folder).metrics()["popularity"]["test"][SELECTION_METRIC]
        for arm in arms
        for seed, entry in entries[arm.name].items()
        if is_whole(entry)
        for job in folder.trainings(arm, seed)
    }
    assert popular == {record["popularity"]}
    found = json.loads(json.dumps(differences(folder, arms, entries, baseline)))
    assert _is_same(record["differences"], found)
    assert record["conclusion"] == conclusion(found, record["arms"], baseline, record["popularity"])


def _is_same(told: Any, found: Any) -> bool:
    """Whether they differ in nothing but what processors round differently."""
    if isinstance(told, dict):
        return told.keys() == found.keys() and all(_is_same(told[key], found[key]) for key in told)
    if isinstance(told, list):
        return len(told) == len(found) and all(map(_is_same, told, found))
    if isinstance(told, float):
        return math.isclose(told, found, rel_tol=1e-9, abs_tol=1e-12)
    return bool(told == found)
