"""Time and memory of a piece of work, so that two pieces can be compared on a noisy machine.

What is compared runs in turns within one process, forwards and backwards, so that other work on the
machine hits both alike; each turn gives a ratio of its own. Memory is measured in a process that
does nothing else.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
import torch

from peercollab.process_memory import held_bytes, peak_bytes
from scripts.benchmarks.others import Others
from scripts.benchmarks.setting import Setting

P = ParamSpec("P")
T = TypeVar("T")

MEGA, GIGA = 1e6, 1e9

# Cores kept busy by other work beyond which a measurement counts as disturbed.
BUSY = 0.1


@dataclass(frozen=True)
class Spread:
    """Several values of one figure.

    Attributes
    ----------
    median, low, high
        The middle one, and the first and third quartile.
    values
        All of them, in the order in which they were measured.
    """

    median: float
    low: float
    high: float
    values: tuple[float, ...]


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of at least one value."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return Spread(float(median), float(low), float(high), tuple(map(float, values)))


def ratios(of: Sequence[float], to: Sequence[float]) -> Spread:
    """Turn by turn, the one value divided by the other."""
    return spread([a / b for a, b in zip(of, to, strict=True)])


def undisturbed(
    setting: Setting, action: Callable[[], T], told: Callable[[T], str], turns: int | None = None
) -> list[T]:
    """What an action gives at each turn, as far as possible without other work on the machine.

    A turn in which others kept more than `BUSY` cores busy is done once more, whatever it gave;
    but in all no more than twice the turns are done. What others did in the turns that count is
    noted in the setting.

    Parameters
    ----------
    action
        Measures once, and is warm already.
    told
        A turn in words, as it goes on.
    turns
        How often; by default as often as the setting says.
    """
    turns = setting.runs if turns is None else turns
    counted: list[T] = []
    spare = turns
    others = Others()
    while len(counted) < turns:
        others.cores()
        result = action()
        busy = others.cores()
        again = busy > BUSY and spare > 0
        note = f"; others kept {busy:.2g} cores busy" if busy > BUSY else ""
        note += ", so it is done once more" if again else ""
        setting.say(f"  {len(counted) + 1}/{turns}: {told(result)}{note}")
        if again:
            spare -= 1
            continue
        counted.append(result)
        setting.others.append(busy)
    return counted


def in_turns(
    setting: Setting, actions: Mapping[str, Callable[[], float]], turns: int | None = None
) -> dict[str, list[float]]:
    """What each action gives at each turn; every second turn goes through them backwards.

    Turns are `undisturbed` as far as possible.
    """
    forwards = list(actions)

    def turn() -> dict[str, float]:
        values = {name: actions[name]() for name in forwards}
        forwards.reverse()
        return values

    def told(values: dict[str, float]) -> str:
        return ", ".join(f"{name} {values[name]:,.4g}" for name in actions)

    done = undisturbed(setting, turn, told, turns)
    return {name: [values[name] for values in done] for name in actions}


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of an action, until the device has done all of it."""
    finish(device)
    started = time.perf_counter()
    action()
    finish(device)
    return time.perf_counter() - started


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_fresh_process(function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """What a function of a module gives in a new process, which ends with it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments, **named).result()


def added_memory(action: Callable[[], object], device: torch.device) -> float:
    """Bytes of memory by which an action goes above what is held before it, at its peak.

    On a CPU that of the whole process since it began, so it wants a new one: if more was held
    before the action than in it, too much is told.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        finish(device)
        return float(torch.cuda.max_memory_allocated(device) - before)
    before = held_bytes()
    action()
    return float(peak_bytes() - before)
