"""How fast a peer trains: against the plain reference, the machine's limit, and two at a time."""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

from peercollab.data.sequences import Histories
from peercollab.data.split import training_spans
from peercollab.models.model import ModelSettings
from peercollab.models.nextitnet import NextItNetOptions
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.options import TrainingOptions
from peercollab.training.trainer import Trainer
from scripts.benchmarks.limits import FLOPS_OF_HEAD, HeadProducts, copy_rate
from scripts.benchmarks.measure import GIGA, finish, in_turns, ratios, seconds, spread
from scripts.benchmarks.profiling import profiled
from scripts.benchmarks.report import Bar, Row
from scripts.benchmarks.setting import Setting
from tests.reference.lists import lists_of
from tests.reference.plain_model import PlainSASRec
from tests.reference.plain_nextitnet import PlainNextItNet
from tests.reference.plain_training import PlainModel, PlainTrainer

PART = "train"
FASTER_THAN_PLAIN = Bar("at least", 3)
SHARE_OF_LIMIT = {64: Bar("at least", 0.45), 256: Bar("at least", 0.6)}
TWO_AGAINST_ONE = Bar("at least", 0.95)


def measure(setting: Setting) -> list[Row]:
    """Rows on positions per second, the head's share of the machine's limit, and two peers."""
    rows = []
    for hidden_size in setting.sizes.hidden_sizes:
        rows += _one_size(setting, hidden_size)
    return [*rows, _convolutions(setting), _two_peers(setting)]


def _convolutions(setting: Setting) -> Row:
    """NextItNet against its plain reference."""
    histories, sizes, device = setting.histories, setting.sizes, setting.device
    hidden_size = sizes.hidden_sizes[0]
    setting.say(f"training of NextItNet, hidden size {hidden_size}: positions/s")
    settings = NextItNetOptions(hidden_size=hidden_size, max_length=sizes.max_length)
    ours = Steps(histories, settings, device)
    plain = PlainNextItNet(
        histories.n_items, hidden_size, settings.dilations, max_length=sizes.max_length
    )
    ours.run(min(2, sizes.steps))
    taken = in_turns(
        setting,
        {"ours": lambda: ours.run(sizes.steps).rate, "plain": _plain(setting, plain)},
    )
    return Row(
        PART,
        f"training of NextItNet, d {hidden_size}",
        "positions/s",
        spread(taken["ours"]),
        ratios(taken["ours"], taken["plain"]),
        "its plain reference",
        FASTER_THAN_PLAIN,
    )


def _one_size(setting: Setting, hidden_size: int) -> list[Row]:
    """The rate of training at one size of the network, against its limit; at the first also
    against the reference."""
    histories, sizes, device = setting.histories, setting.sizes, setting.device
    setting.say(f"training, hidden size {hidden_size}: positions/s, GFLOP/s, GB/s")
    ours = Steps(histories, _sasrec(hidden_size, sizes.max_length), device)
    limit = HeadProducts(
        hidden_size, histories.n_items, device, setting.numbers, sizes.gemm_seconds
    )
    actions: dict[str, Callable[[], float]] = {
        "limit": limit.rate,
        "ours": lambda: ours.run(sizes.steps).rate,
    }
    is_first = hidden_size == sizes.hidden_sizes[0]
    if is_first:
        plain = PlainSASRec(histories.n_items, hidden_size, max_length=sizes.max_length)
        actions |= {"plain": _plain(setting, plain), "copy": copy_rate(device)}
    ours.run(min(2, sizes.steps))
    taken = in_turns(setting, actions)
    if setting.profile is not None:
        name = f"training-{hidden_size}"
        profiled(setting.profile, name, lambda: ours.run(min(5, sizes.steps)), device)

    flops_a_position = FLOPS_OF_HEAD * hidden_size * histories.n_items
    head = [rate * flops_a_position / GIGA for rate in taken["ours"]]
    what = f"d {hidden_size}"
    rows = [
        Row(PART, f"products of matrices of the head, {what}", "GFLOP/s", spread(taken["limit"])),
        Row(
            PART,
            f"the head's FLOPs over the whole step, {what}",
            "GFLOP/s",
            spread(head),
            ratios(head, taken["limit"]),
            "those products",
            SHARE_OF_LIMIT.get(hidden_size),
        ),
    ]
    if is_first:
        rows = [
            Row(PART, "copying in memory", "GB/s", spread(taken["copy"])),
            Row(PART, f"plain reference, {what}", "positions/s", spread(taken["plain"])),
            Row(
                PART,
                f"training, {what}",
                "positions/s",
                spread(taken["ours"]),
                ratios(taken["ours"], taken["plain"]),
                "the plain reference",
                FASTER_THAN_PLAIN,
            ),
            *rows,
        ]
    return rows


def _sasrec(hidden_size: int, max_length: int) -> SASRecOptions:
    return SASRecOptions(hidden_size=hidden_size, max_length=max_length)


def _plain(setting: Setting, model: PlainModel) -> Callable[[], float]:
    """A measurement of the reference on the same data (positions/s), which is warm."""
    histories, sizes, device = setting.histories, setting.sizes, setting.device
    sequences = lists_of(histories.items, training_spans(histories))
    trainer = PlainTrainer(model.to(device), sequences)

    def positions_a_second(steps: int) -> float:
        positions = 0

        def train() -> None:
            nonlocal positions
            positions = trainer.train(steps)

        with setting.numbers.used(device):
            taken = seconds(train, device)
        return positions / taken

    positions_a_second(1)
    return lambda: positions_a_second(sizes.steps)


@dataclass(frozen=True)
class Work:
    """Training that was done: real positions, and seconds of wall-clock time."""

    positions: int
    seconds: float

    @property
    def rate(self) -> float:
        """Positions/s."""
        return self.positions / self.seconds


class Steps:
    """Our training, so many steps at a time, epoch after epoch.

    What the beginning of an epoch takes is charged to the steps in equal parts.
    """

    def __init__(
        self,
        histories: Histories,
        model: ModelSettings,
        device: torch.device,
    ) -> None:
        self.device = device
        self.trainer = Trainer(
            histories,
            model,
            TrainingOptions(),
            stream=1,
            learning_rate=1e-3,
            device=device,
        )
        self.seconds_to_begin = 0.0
        self._epoch = self._done = self._positions = 0
        self._begin()

    def run(self, steps: int) -> Work:
        """Train so many steps, at most an epoch."""
        steps = min(steps, self.trainer.steps_per_epoch)
        if self._done + steps > self.trainer.steps_per_epoch:
            self._begin()
        self._done += steps
        finish(self.device)
        started = time.perf_counter()
        positions = self.trainer.train_to(self._done).positions
        finish(self.device)
        taken = time.perf_counter() - started
        taken += self.seconds_to_begin * steps / self.trainer.steps_per_epoch
        new, self._positions = positions - self._positions, positions
        return Work(new, taken)

    def _begin(self) -> None:
        self._epoch += 1
        self._done = self._positions = 0
        self.seconds_to_begin = seconds(lambda: self.trainer.begin_epoch(self._epoch), self.device)


def _two_peers(setting: Setting) -> Row:
    """Two processes of half the threads each, against one of all; on a GPU they share it."""
    sizes = setting.sizes
    half = max(1, setting.threads // 2)
    where = f" on one {setting.device.type}" if setting.device.type != "cpu" else ""
    setting.say(f"two peers of {half} thread(s), and one of {2 * half}{where}: positions/s in all")
    with ExitStack() as stack:
        pair = [stack.enter_context(_Peer(setting, half)) for _ in range(2)]
        single = stack.enter_context(_Peer(setting, 2 * half))
        for peer in (*pair, single):
            peer.ready()
        taken = in_turns(
            setting,
            {
                "two": lambda: _together(pair, sizes.steps),
                "one": lambda: _together([single], 2 * sizes.steps),
            },
        )
    return Row(
        PART,
        f"two peers of {half} thread(s) each{where}, d {sizes.hidden_sizes[0]}",
        "positions/s",
        spread(taken["two"]),
        ratios(taken["two"], taken["one"]),
        f"one peer of {2 * half} threads",
        TWO_AGAINST_ONE,
    )


class _Peer:
    """A process of its own that trains when it is told to; it ends with the context."""

    def __init__(self, setting: Setting, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work,
            args=(
                theirs,
                setting.histories,
                setting.sizes.hidden_sizes[0],
                setting.sizes.max_length,
                setting.device,
                threads,
            ),
            daemon=True,
        )
        self._process.start()
        theirs.close()

    def ready(self) -> None:
        """Wait until it is warm."""
        self.pipe.recv()

    def __enter__(self) -> "_Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _work(
    pipe: Connection,
    histories: Histories,
    hidden_size: int,
    max_length: int,
    device: torch.device,
    threads: int,
) -> None:
    """What a peer's process does: train as many steps as it is told, and say what was done when."""
    torch.set_num_threads(threads)
    steps = Steps(histories, _sasrec(hidden_size, max_length), device)
    steps.run(2)
    pipe.send(None)
    while True:
        wanted = pipe.recv()
        started = time.monotonic()
        positions = steps.run(wanted).positions
        pipe.send((positions, started, time.monotonic()))


def _together(peers: list[_Peer], steps: int) -> float:
    """Positions/s of all, from when the first begins until the last has ended.

    The peers go through the same batches, so that they end together but for noise.
    """
    for peer in peers:
        peer.pipe.send(steps)
    positions, started, ended = zip(*(peer.pipe.recv() for peer in peers), strict=True)
    return float(sum(positions) / (max(ended) - min(started)))
