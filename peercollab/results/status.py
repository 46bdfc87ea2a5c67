"""How a run stands, from its folder alone."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from peercollab.errors import PeercollabError
from peercollab.results.checkpoint import Checkpoints
from peercollab.results.display import duration
from peercollab.results.heartbeat import Beat, last_beat
from peercollab.results.run_folder import (
    METRICS,
    ROUNDS,
    RunFolder,
    of_this_version,
    read_config,
    recommend_command,
    report_command,
    resume_command,
)
from peercollab.training.metrics import SELECTION_METRIC

State = Literal["running", "stopped", "killed", "ended"]

# Events of a run that are told before the earlier ones are only counted.
MOST_EVENTS = 5


@dataclass(frozen=True)
class PeerStatus:
    """A peer's last complete round, and where it is now.

    Attributes
    ----------
    loss, validation, positions_a_second
        Of its last round; None where there is none, or it sat that out.
    now
        Round, step, steps, loss (None before there is any) and phase; None unless the run is going
        on.
    """

    peer: int
    loss: float | None
    validation: float | None
    positions_a_second: float | None
    now: Mapping[str, Any] | None


@dataclass(frozen=True)
class Status:
    """How a run stands.

    Attributes
    ----------
    state
        running; stopped in good order before its end; killed, so that nobody could tell; or ended.
    rounds, epochs
        Complete rounds, and the most there will be.
    age
        Seconds since the last sign of it: a round, or its driver's heartbeat.
    record_age
        Seconds since the last record of a round; None before the first.
    best
        Peer, round and validation of the best state so far.
    test
        NDCG@10 on test of a run that has ended.
    peers
        One by one.
    seconds
        Of the last round, by phase.
    events
        Losses, returns and peers that sat rounds out, with their round; also of a round that is
        not complete yet.
    checkpoint
        The last round whose checkpoint is complete.
    where
        Host and process of a run that is going on, or was.
    next
        What can be done now.
    """

    run: str
    state: State
    rounds: int
    epochs: int
    age: float
    record_age: float | None
    best: Mapping[str, Any] | None
    test: float | None
    peers: list[PeerStatus]
    seconds: Mapping[str, float]
    events: list[str]
    checkpoint: int | None
    where: str | None
    next: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def status(run: Path) -> Status:
    """How the run in this folder stands; it may be going on meanwhile.

    Raises
    ------
    PeercollabError
        It is no run folder, or one of another version of peercollab.
    """
    folder, config = RunFolder(run), read_config(run)
    try:
        with of_this_version(run):
            return _status(run, folder, config)
    except OSError as error:
        raise PeercollabError(
            f"{error.filename or run} cannot be read: {error.strerror}"
        ) from error


def _status(run: Path, folder: RunFolder, config: Mapping[str, Any]) -> Status:
    rounds, beat = folder.rounds(), last_beat(run)
    metrics = folder.metrics()
    last = rounds[-1] if rounds else None
    test = metrics.get("test", {}).get(SELECTION_METRIC)
    state = _state(beat, ended=test is not None)
    checkpoint = _last_checkpoint(folder.checkpoints)
    return Status(
        run=str(run),
        state=state,
        rounds=len(rounds),
        epochs=config["training"]["epochs"],
        age=_since(_last_sign(run, beat)),
        record_age=_since((run / ROUNDS).stat().st_mtime) if rounds else None,
        best=metrics.get("selected") or (last and last["best"]),
        test=test,
        peers=_peers(config, last, beat if state == "running" else None),
        seconds=last["seconds"] if last else {},
        events=[event for record in rounds for event in _events(record)]
        + _latest_events(beat, last),
        checkpoint=checkpoint,
        where=f"process {beat.pid} on {beat.host}" if beat else None,
        next=_next(run, config, state, len(rounds), checkpoint),
    )


def in_words(status: Status) -> str:
    """The same as text, a line for each thing that there is to say."""
    place = f" ({status.where})" if status.where else ""
    lines = [
        f"{status.run}: {status.state}{place}, {status.rounds} of at most {status.epochs} rounds, "
        f"last sign {duration(status.age)} ago"
    ]
    if status.record_age is not None:
        lines.append(f"last record of a round {duration(status.record_age)} ago")
    if best := status.best:
        whose = f" (peer {best['peer']}, round {best['round']})" if "peer" in best else ""
        lines.append(f"best validation {SELECTION_METRIC} {best[SELECTION_METRIC]:.4f}{whose}")
    if status.test is not None:
        lines.append(f"test {SELECTION_METRIC} {status.test:.4f}")
    lines += map(_peer_in_words, status.peers)
    if status.seconds:
        phases = ", ".join(f"{name} {_short(spent)} s" for name, spent in status.seconds.items())
        lines.append(f"last round took: {phases}")
    if earlier := len(status.events) - MOST_EVENTS:
        if earlier > 0:
            lines.append(f"{earlier} earlier events, in rounds.jsonl")
        lines += status.events[-MOST_EVENTS:]
    if status.checkpoint is not None:
        lines.append(f"last complete checkpoint: after round {status.checkpoint}")
    return "\n".join([*lines, f"next: {status.next}"])


def _short(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds >= 0.01 else "< 0.01"


def _state(beat: Beat | None, *, ended: bool) -> State:
    if beat is not None and beat.is_alive:
        return "running"
    if ended:
        return "ended"
    return "stopped" if beat is None else "killed"


def _last_checkpoint(checkpoints: Checkpoints) -> int | None:
    return max(checkpoints.complete_ones(), default=None)


def _last_sign(run: Path, beat: Beat | None) -> float:
    files = [run / name for name in (ROUNDS, METRICS, "config.json")]
    signs = [file.stat().st_mtime for file in files if file.exists()]
    return max([*signs, beat.at] if beat else signs)


def _since(moment: float) -> float:
    # The clocks of two machines differ.
    return max(time.time() - moment, 0.0)


def _peers(
    config: Mapping[str, Any], last: Mapping[str, Any] | None, beat: Beat | None
) -> list[PeerStatus]:
    reports = {report["peer"]: report for report in last["peers"]} if last else {}
    now = {of["peer"]: of | {"loss": _finite(of["loss"])} for of in beat.progress} if beat else {}
    peers = []
    for number in range(1, config["execution"]["peers"] + 1):
        report = reports.get(number, {})
        trained = report.get("seconds", {}).get("train")
        peers.append(
            PeerStatus(
                number,
                report.get("loss"),
                (report.get("validation") or {}).get(SELECTION_METRIC),
                report["positions"] / trained if trained and report["positions"] else None,
                now.get(number),
            )
        )
    return peers


def _finite(loss: float) -> float | None:
    # JSON has no NaN.
    return loss if math.isfinite(loss) else None


def _peer_in_words(peer: PeerStatus) -> str:
    parts = [f"peer {peer.peer}"]
    if peer.loss is not None:
        parts.append(f"loss {peer.loss:.4f}")
    if peer.validation is not None:
        parts.append(f"{SELECTION_METRIC} {peer.validation:.4f}")
    if peer.positions_a_second is not None:
        parts.append(f"{peer.positions_a_second:,.0f} positions/s")
    if now := peer.now:
        parts.append(f"now round {now['round']}, {now['phase']} {now['step']}/{now['steps']}")
    return "  ".join(parts)


def _events(record: Mapping[str, Any]) -> list[str]:
    round = record["round"]
    told = [f"round {round}: {event}" for event in record["interruptions"]]
    return told + [
        f"round {round}: peer {failure['peer']} sat out: {failure['reason']}"
        for failure in record["failures"]
    ]


def _latest_events(beat: Beat | None, last: Mapping[str, Any] | None) -> list[str]:
    """Those of the round that is not complete; a beat may be older than the last record."""
    told = last["interruptions"] if last else []
    round = last["round"] + 1 if last else 1
    return [
        f"round {round}: {event}" for event in (beat.events if beat else ()) if event not in told
    ]


def _next(
    run: Path, config: Mapping[str, Any], state: State, rounds: int, checkpoint: int | None
) -> str:
    report = report_command(run)
    if state == "ended":
        # What several runs of a comparison came to is a model without rounds to report.
        return recommend_command(run, config) + (f"  or  {report}" if rounds else "")
    if state == "running":
        return "wait" + (f"; {report} shows it so far" if rounds else "")
    if checkpoint is None:
        return "train anew: it has no checkpoint"
    return resume_command(run, config)
