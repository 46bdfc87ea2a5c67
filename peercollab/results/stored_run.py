"""What a run folder says of its run, read back and checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peercollab.errors import PeercollabError
from peercollab.results.run_folder import read_config

ROUNDS = "rounds.jsonl"
METRICS = "metrics.json"
ENVIRONMENT = "environment.json"

Record = Mapping[str, Any]

NEEDED_OPTIONS = ("data", "training", "transplant")
# What a report needs of a round: keys and what they hold; of a list, what each of its members is.
ROUND = {
    "round": int,
    "layers": dict,
    "peers": [{"peer": int, "loss": object, "validation": object, "seconds": dict}],
    "failures": [{"peer": int, "step": int, "reason": str}],
    "interruptions": [str],
    "statistics": dict,
    "exchanges": int,
    "receivers": dict,
    "transfers": [{"receiver": int, "donor": int, "shares": dict}],
    "bytes_moved": int,
    "seconds": dict,
    "best": object,
}


@dataclass(frozen=True)
class StoredRun:
    """A run as its folder tells it.

    Attributes
    ----------
    config, environment, metrics
        As in ``config.json``, ``environment.json`` and ``metrics.json``; the last two are empty
        where there is no such file (yet).
    rounds
        The records of ``rounds.jsonl``, at least one.
    cut_off
        Whether the last line was left unfinished, and so is not among the rounds.
    """

    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: Mapping[str, Any]
    rounds: list[Record]
    cut_off: bool

    @property
    def selected(self) -> Mapping[str, Any] | None:
        """Peer, round and validation NDCG@10 of the kept state, where one was validated."""
        selected: Mapping[str, Any] | None = self.metrics.get("selected", self.rounds[-1]["best"])
        return selected


def read_run(folder: Path) -> StoredRun:
    """Read a run folder, of a run that is finished, going on, or was stopped.

    Raises
    ------
    PeercollabError
        It is no run folder, no round has been completed, a file is damaged, or the run is of
        another version of peercollab.
    """
    config = read_config(folder)
    for name in NEEDED_OPTIONS:
        if name not in config:
            raise PeercollabError(f"{folder / 'config.json'} has no {name}: not of a training run")
    rounds, cut_off = _read_rounds(folder / ROUNDS)
    return StoredRun(
        config=config,
        environment=_read_object(folder / ENVIRONMENT),
        metrics=_read_object(folder / METRICS),
        rounds=rounds,
        cut_off=cut_off,
    )


def _read_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = _parse(path.read_bytes())
    if content is None:
        raise PeercollabError(f"{path} is damaged: it is no JSON object")
    return content


def _read_rounds(path: Path) -> tuple[list[Record], bool]:
    """The rounds, and whether a last unfinished one was left out."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    records = [_parse(line) for line in lines]
    # A run that is killed while it writes leaves the beginning of a line.
    cut_off = bool(records) and records[-1] is None
    if cut_off:
        records.pop()
    rounds: list[Record] = []
    for number, record in enumerate(records, start=1):
        if record is None:
            raise PeercollabError(f"{path}, line {number} is damaged: it is no record of a round")
        if not _fits(record, ROUND):
            raise PeercollabError(
                f"{path}, line {number} is the record of another version of peercollab: train again"
            )
        rounds.append(record)
    if not rounds:
        raise PeercollabError(f"{path.parent}: no round of this run has been completed yet")
    return rounds, cut_off


def _fits(value: Any, shape: Any) -> bool:
    """Whether a value has all that a shape such as `ROUND` names; it may have more."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            name in value and _fits(value[name], inner) for name, inner in shape.items()
        )
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(member, shape[0]) for member in value)
    return isinstance(value, shape)


def _parse(text: bytes) -> dict[str, Any] | None:
    """A JSON object, or None if it is none."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None
