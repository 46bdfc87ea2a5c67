"""What a round costs besides training: exchange, Ray, and the start of a run."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from peercollab.actors.executor import Executor
from peercollab.actors.messages import PeerSetup, SharedSetup
from peercollab.actors.options import ExecutionOptions
from peercollab.data.sequences import Histories
from peercollab.data.split import training_spans
from peercollab.models.sasrec import SASRecOptions
from peercollab.run import start_executor, with_start
from peercollab.training.options import TrainingOptions
from peercollab.transplant.options import TransplantOptions
from scripts.benchmarks.limits import copy_seconds
from scripts.benchmarks.measure import MEGA, in_turns, ratios, spread, undisturbed
from scripts.benchmarks.report import Bar, Row
from scripts.benchmarks.setting import Setting, real_data
from scripts.benchmarks.synthetic import synthetic_histories

PART = "round"
COPIES = Bar("at most", 20)
SHARE_OF_EPOCH = Bar("at most", 0.01)
RAY_AGAINST_LOCAL = Bar("at most", 1.02)
STARTED_IN = Bar("at most", 12)

# What a round does besides the exchange. All other phases count as part of it.
OTHER_PHASES = ("train", "rank", "save", "settle")

# Users whose training is short however large the catalogue is.
FEW_USERS, FEW_INTERACTIONS = 40, 800
PEERS = 2
MANY_EPOCHS = 1_000


def measure(setting: Setting) -> list[Row]:
    """Rows on the exchange of large and usual weights, on Ray, and on start-up."""
    with TemporaryDirectory() as folder:
        rows = _large_weights(setting, Path(folder))
        rows += _share_of_epoch(setting, Path(folder))
        rows.append(_ray_against_local(setting, Path(folder)))
        rows.append(_start(setting, Path(folder)))
    return rows


def _large_weights(setting: Setting, folder: Path) -> list[Row]:
    """The exchange of two peers' large weights over Ray, against one copy of all of them."""
    sizes = setting.sizes
    few = min(FEW_INTERACTIONS // 2, sizes.round_items)
    histories = replace(
        synthetic_histories(FEW_USERS, few, FEW_INTERACTIONS), n_items=sizes.round_items
    )
    shared = _shared(
        SASRecOptions(hidden_size=sizes.round_hidden_size, max_length=sizes.max_length),
        # Nothing is ranked: only the exchange is looked at.
        TrainingOptions(epochs=MANY_EPOCHS, validate_every=MANY_EPOCHS),
        setting.threads // PEERS,
        folder,
    )
    with _executor(setting, "ray", PEERS, shared, histories) as executor:
        n_bytes = PEERS * sum(array.nbytes for array in executor.weights(0).values())
        setting.say(f"exchange of {n_bytes / MEGA:.0f} MB between two peers, and a copy: ms")
        copy = copy_seconds(n_bytes)
        rounds = _Rounds(executor)
        # The first exchange takes new pages from the object store, and later ones use them again.
        first = rounds.exchange()
        taken = in_turns(
            setting, {"exchange": lambda: 1e3 * rounds.exchange(), "copy": lambda: 1e3 * copy()}
        )
    what = f"of {n_bytes / MEGA:.0f} MB"
    return [
        Row(PART, f"one copy {what}", "ms", spread(taken["copy"])),
        Row(PART, f"first exchange {what} over Ray", "ms", spread([1e3 * first])),
        Row(
            PART,
            f"statistics, plan, transfer and mixture {what} over Ray",
            "ms",
            spread(taken["exchange"]),
            ratios(taken["exchange"], taken["copy"]),
            "one copy",
            COPIES,
        ),
        *(
            Row(PART, f"{phase} {what} over Ray", "ms", spread([1e3 * value for value in values]))
            for phase, values in rounds.phases().items()
        ),
    ]


def _share_of_epoch(setting: Setting, folder: Path) -> list[Row]:
    """The exchange's share of a whole epoch, reckoned from an epoch of some of the users."""
    sizes = setting.sizes
    histories = one_user_of(sizes.one_user_of, setting.histories)
    scale = _positions(setting.histories) / _positions(histories)
    shared = _shared(
        SASRecOptions(hidden_size=sizes.hidden_sizes[0], max_length=sizes.max_length),
        TrainingOptions(epochs=MANY_EPOCHS, validate_every=MANY_EPOCHS),
        setting.threads // PEERS,
        folder,
    )
    setting.say(f"exchange of a usual round: ms; an epoch, reckoned from {1 / scale:.0%} of it: s")
    with _executor(setting, "ray", PEERS, shared, histories) as executor:
        rounds = _Rounds(executor)
        rounds.exchange()
        done = undisturbed(
            setting,
            lambda: (rounds.exchange(), scale * rounds.seconds[-1]["train"]),
            lambda taken: f"exchange {1e3 * taken[0]:.3g}, epoch {taken[1]:.3g}",
        )
    exchange, epoch = (list(values) for values in zip(*done, strict=True))
    return [
        Row(PART, "an epoch of two peers, from part of the users", "s", spread(epoch)),
        Row(
            PART,
            f"exchange of a usual round, d {sizes.hidden_sizes[0]}",
            "ms",
            spread([1e3 * value for value in exchange]),
            ratios(exchange, epoch),
            "an epoch",
            SHARE_OF_EPOCH,
        ),
    ]


def _ray_against_local(setting: Setting, folder: Path) -> Row:
    """Whole rounds of one peer, ranking included, over Ray and in this process."""
    sizes = setting.sizes
    histories = one_user_of(sizes.one_user_of, setting.histories)
    shared = _shared(
        SASRecOptions(hidden_size=sizes.hidden_sizes[0], max_length=sizes.max_length),
        TrainingOptions(epochs=MANY_EPOCHS),
        setting.threads,
        folder,
    )
    setting.say("an epoch of one peer, over Ray and in this process: s")
    with (
        _executor(setting, "ray", 1, shared, histories) as ray,
        _executor(setting, "local", 1, shared, histories) as local,
    ):
        there, here = _Rounds(ray), _Rounds(local)
        there.whole()
        here.whole()
        # Ten epochs of each with the default number of runs.
        taken = in_turns(setting, {"ray": there.whole, "local": here.whole}, 2 * setting.runs)
    return Row(
        PART,
        "an epoch of one peer over Ray, ranking included, part of the users",
        "s",
        spread(taken["ray"]),
        ratios(taken["ray"], taken["local"]),
        "one in this process",
        RAY_AGAINST_LOCAL,
    )


def _start(setting: Setting, folder: Path) -> Row:
    """From the call of the command to the first step of two peers over Ray."""
    sizes = setting.sizes
    data = real_data("ml-100k.inter")
    if data is None:
        log = synthetic_histories(sizes.start_users, sizes.start_items, sizes.start_interactions)
        data = folder / "start.csv"
        users = np.repeat(np.arange(log.n_users), log.lengths)
        table = np.column_stack([users, log.items])
        np.savetxt(data, table, fmt="%d", delimiter=",", header="user,item", comments="")
    setting.say(f"start of `peercollab train` on {data.name}: s to the first step")
    taken = []
    for run in range(setting.runs):
        taken.append(_seconds_to_first_step(data, folder / f"start-{run}"))
        setting.say(f"  {run + 1}/{setting.runs}: {taken[-1]:.2f}")
    return Row(
        PART,
        f"start of `peercollab train` to the first step, {data.stem}, Ray",
        "s",
        spread(taken),
        bar=STARTED_IN,
    )


def _seconds_to_first_step(data: Path, out: Path) -> float:
    """Of a run of one round: when its record was written, less what the round took.

    The round begins with the first step and is written down as soon as it has ended, so nothing
    is added to the run in order to measure it.
    """
    command = [sys.executable, "-m", "peercollab", "train", "--data", str(data), "--out", str(out)]
    command += ["--epochs", "1", "--peers", str(PEERS)]
    started = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    rounds = out / "rounds.jsonl"
    (record,) = map(json.loads, rounds.read_text(encoding="utf-8").splitlines())
    return rounds.stat().st_mtime - sum(record["seconds"].values()) - started


class _Rounds:
    """Rounds of an executor, one after another.

    Attributes
    ----------
    seconds
        Of each, the seconds of its phases.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.seconds: list[Mapping[str, float]] = []

    def whole(self) -> float:
        """Seconds that the next round takes."""
        started = time.perf_counter()
        record = self._executor.run_round(len(self.seconds) + 1, lambda progress: None)
        taken = time.perf_counter() - started
        self.seconds.append(record.seconds)
        return taken

    def exchange(self) -> float:
        """Seconds that the exchange of the next round takes, all phases of it."""
        self.whole()
        return sum(_exchange_phases(self.seconds[-1]).values())

    def phases(self) -> dict[str, list[float]]:
        """Seconds of each phase of the exchange, and of settling, in all rounds but the first."""
        seconds = self.seconds[1:]
        names = [*_exchange_phases(seconds[0]), "settle"]
        return {name: [values[name] for values in seconds] for name in names}


def _exchange_phases(seconds: Mapping[str, float]) -> dict[str, float]:
    return {phase: taken for phase, taken in seconds.items() if phase not in OTHER_PHASES}


def _shared(
    model: SASRecOptions, training: TrainingOptions, threads: int, folder: Path
) -> SharedSetup:
    """What the peers of one executor have in common; the kept model goes into the folder."""
    transplant = TransplantOptions().build()
    return SharedSetup(
        model=model,
        training=with_start(training, transplant.rule),
        transplant=transplant,
        threads=max(1, threads),
        best=folder,
    )


def _executor(
    setting: Setting, kind: str, n_peers: int, shared: SharedSetup, histories: Histories
) -> Executor:
    """Peers that share what GPUs there are, if GPUs are measured at all."""
    on_gpu = setting.device.type == "cuda"
    options = ExecutionOptions(
        peers=n_peers,
        executor="ray" if kind == "ray" else "local",
        device="cuda" if on_gpu else "cpu",
        # A share of a GPU lies on one card.
        gpus_per_peer=1.0 / math.ceil(n_peers / torch.cuda.device_count()) if on_gpu else 1.0,
    )
    peers = [PeerSetup(number, number, 1e-3) for number in range(1, n_peers + 1)]
    return start_executor(options, peers, shared, histories)


def one_user_of(n: int, histories: Histories) -> Histories:
    """Every n-th user, with the whole catalogue."""
    users = np.arange(0, histories.n_users, n)
    lengths = histories.lengths[users]
    items = np.concatenate([histories.of(user) for user in users.tolist()])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Histories(items, offsets, histories.n_items)


def _positions(histories: Histories) -> int:
    """Real positions of an epoch: all items to learn from but each user's first."""
    return int(np.maximum(training_spans(histories).lengths - 1, 0).sum())
