"""A comparison from options to result: what has to be trained is trained, then all is judged."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from peercollab.actors.pool import LocalPool, Pool
from peercollab.comparison.arms import Arm
from peercollab.comparison.display import RunsDisplay
from peercollab.comparison.folder import ComparisonFolder
from peercollab.comparison.options import CompareOptions, RunsOptions
from peercollab.comparison.result import result_of, trial_record
from peercollab.comparison.search import SEARCH_SEED, Trial, best_of, trials_of
from peercollab.comparison.work import Job, Outcome, carry_out, read_outcome, write_outcome
from peercollab.data.sequences import Histories
from peercollab.errors import PeercollabError
from peercollab.options import TrainOptions
from peercollab.results.display import say
from peercollab.results.heartbeat import Heartbeat, require_idle
from peercollab.run import Loaded, load
from peercollab.training.examples import make_examples


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
    folder.open(options.as_json(), loaded.data.checksum())
    trials = _trials(options, base, loaded.data.histories)
    seed = base.training.seed + SEARCH_SEED
    chosen, records = [of[0] for of in trials], list[dict[str, Any]]()
    try:
        with Heartbeat(folder.path, lambda: ()), _pool(options.execution, loaded) as pool:
            if options.trials:
                say(f"search: {options.trials} random trials of each arm, and the options as given")
                _do([(trial.arm, seed) for of in trials for trial in of], folder, pool)
                chosen, records = _choose(trials, seed, folder)
            _do([(of.arm, seed) for seed in options.seed_numbers for of in chosen], folder, pool)
    except BaseException:
        say(f"what is done is kept in {options.folder}: the same command goes on with it")
        raise
    finally:
        # Also of what was done before it was stopped.
        result = result_of(options, loaded.data, chosen, records, folder)
        folder.write(result)
    return result


def _trials(options: CompareOptions, base: TrainOptions, histories: Histories) -> list[list[Trial]]:
    """Of each arm what it is tried with, the options as given first."""
    model = base.model.build()
    training = base.training.of_model(model)
    assert training.batch_size is not None
    steps = -(-len(make_examples(histories, model)) // training.batch_size)
    return [trials_of(told, base, steps, options.trials) for told in options.arms]


def _choose(
    trials: Sequence[Sequence[Trial]], seed: int, folder: ComparisonFolder
) -> tuple[list[Trial], list[dict[str, Any]]]:
    """Of each arm the best trial, and the records of all."""
    records = [[trial_record(folder, trial, seed) for trial in of] for of in trials]
    chosen = [
        best_of(of, [record["validation"] for record in told])
        for of, told in zip(trials, records, strict=True)
    ]
    for trial in chosen:
        say(f"{trial.arm.name}: {' '.join(trial.changes) or 'the options as given'}")
    return chosen, [record for told in records for record in told]


def _pool(options: RunsOptions, loaded: Loaded) -> Pool:
    """Where the work is done. Ray is imported only if it is wanted."""
    if options.executor == "local":
        return LocalPool(loaded)
    from peercollab.actors.ray_pool import RayPool

    return RayPool(options.pool, options.threads_per_peer, loaded)


def _do(wanted: Sequence[tuple[Arm, int]], folder: ComparisonFolder, pool: Pool) -> None:
    """Train what some seeds of some arms need, and bring it to its end."""
    _finish([job for arm, seed in wanted for job in folder.trainings(arm, seed)], pool)
    ends = [job for arm, seed in wanted if (job := folder.ending(arm, seed)) is not None]
    _finish([job for job in ends if all(map(_is_done, job.members))], pool)


def _finish(jobs: Sequence[Job], pool: Pool) -> None:
    """Do those jobs that have not come to a good end, each once."""
    each = {job.folder: job for job in jobs}
    left = [job for job in each.values() if not _is_done(job)]
    with RunsDisplay(left, len(each) - len(left)) as display:
        work = partial(carry_out, measure_memory=pool.has_own_processes)
        for job, outcome in pool.each(work, left, display.watch):
            if isinstance(outcome, PeercollabError):
                outcome = Outcome(error=str(outcome))
                write_outcome(job, outcome)
            display.done(job, outcome)


def _is_done(job: Job) -> bool:
    outcome = read_outcome(job)
    return outcome is not None and outcome.error is None
