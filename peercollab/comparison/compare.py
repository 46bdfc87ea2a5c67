"""A comparison from options to result: what has to be trained is trained, then all is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from peercollab.actors.pool import LocalPool, Pool
from peercollab.comparison.arms import Arm
from peercollab.comparison.display import RunsDisplay
from peercollab.comparison.folder import ComparisonFolder
from peercollab.comparison.options import CompareOptions, RunsOptions
from peercollab.comparison.result import result_of, trial_record
from peercollab.comparison.search import SEARCH_SEED, Trial, best_of, taken, trials_of
from peercollab.comparison.work import (
    Job,
    Outcome,
    carry_out,
    read_outcome,
    require_seen,
    require_shared,
    write_outcome,
)
from peercollab.errors import PeercollabError
from peercollab.results.display import say
from peercollab.results.heartbeat import Heartbeat, require_idle
from peercollab.run import Loaded, load


def compare(options: CompareOptions) -> dict[str, Any]:
    """Train all arms under all seeds, or what is left of that, and say what differs.

    Parameters
    ----------
    options
        Everything that the command line offers.

    Returns
    -------
    dict
        As in ``comparison.json``.

    Raises
    ------
    PeercollabError
        Options, data, folder or cluster do not allow it. A training that fails is an entry of
        the result.
    KeyboardInterrupt
        It was stopped; the same command goes on with it.
    """
    folder = ComparisonFolder(options.folder)
    require_idle(folder.path)
    base = options.base()
    loaded = load(base)
    trials = [trials_of(told, base, loaded.data.histories, options.trials) for told in options.arms]
    folder.open(options.as_json(), options.made_arms, loaded.data.checksum())
    for note in folder.notes():
        say(f"note: {note}")
    seed = base.training.seed + SEARCH_SEED
    try:
        with (
            Heartbeat(folder.path, lambda: ()) as heartbeat,
            _pool(options.execution, loaded) as pool,
        ):
            work = _Work(folder, pool, heartbeat)
            chosen = _search(work, trials, seed)
            work.do([(of.arm, seed) for seed in options.seed_numbers for of in chosen])
    except BaseException:
        say(f"what is done is kept in {options.folder}: the same command goes on with it")
        raise
    finally:
        # Also of what was done before it was stopped.
        result = result_of(options, loaded.data, trials, folder)
        folder.write(result)
    return result


def _pool(options: RunsOptions, loaded: Loaded) -> Pool:
    """Where the work is done. Ray is imported only if it is wanted."""
    if options.executor == "local":
        return LocalPool(loaded)
    from peercollab.actors.ray_pool import RayPool

    return RayPool(options.pool, options.threads_per_peer, loaded)


@dataclass
class _Work:
    """Does jobs, and tells how far they are."""

    folder: ComparisonFolder
    pool: Pool
    heartbeat: Heartbeat
    is_shared: bool = False

    def do(self, wanted: Sequence[tuple[Arm, int]]) -> None:
        """Train what some seeds of some arms need, and bring it to its end."""
        self._finish([job for arm, seed in wanted for job in self.folder.trainings(arm, seed)])
        ends = [job for arm, seed in wanted if (job := self.folder.ending(arm, seed)) is not None]
        self._finish([job for job in ends if all(map(_is_done, job.members))])

    def _finish(self, jobs: Sequence[Job]) -> None:
        """Do those jobs that have not come to a good end, each once."""
        each = {job.folder: job for job in jobs}
        left = [job for job in each.values() if not _is_done(job)]
        if left and not self.is_shared:
            require_shared(self.folder.path, self.pool)
            self.is_shared = True
        with RunsDisplay(left, len(each) - len(left)) as display:
            self._tell(display)
            work = partial(carry_out, has_own_process=self.pool.has_own_processes)
            for job, outcome in self.pool.each(work, left, display.watch):
                if isinstance(outcome, PeercollabError):
                    outcome = Outcome(error=str(outcome))
                    write_outcome(job, outcome)
                require_seen(job, outcome)
                display.done(job, outcome)
                self._tell(display)

    def _tell(self, display: RunsDisplay) -> None:
        self.heartbeat.progress = [display.progress]
        self.heartbeat.beat()


def _search(work: _Work, trials: Sequence[Sequence[Trial]], seed: int) -> list[Trial]:
    """Of each arm the best trial on validation; once it is chosen, it stays.

    An arm of which all trials failed is left out, and tried again the next time.
    """
    numbers = work.folder.chosen()
    left = [of for of in trials if taken(of, numbers) is None]
    if left:
        say(f"search: {len(left[0]) - 1} random trials of each arm, and the options as given")
        work.do([(trial.arm, seed) for of in left for trial in of])
        for of in left:
            values = [trial_record(work.folder, trial, seed)["validation"] for trial in of]
            if (best := best_of(of, values)) is None:
                say(f"{of[0].arm.name}: all trials failed")
                continue
            say(f"{best.arm.name}: {' '.join(best.changes) or 'the options as given'}")
            numbers[best.arm.name] = best.number
        work.folder.choose(numbers)
    return [trial for of in trials if (trial := taken(of, numbers)) is not None]


def _is_done(job: Job) -> bool:
    outcome = read_outcome(job)
    return outcome is not None and outcome.error is None
